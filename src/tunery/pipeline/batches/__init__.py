"""Files of requests, answered line by line when there is time, and written to files in the end."""
