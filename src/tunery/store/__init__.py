"""The only code that touches persistent state: metadata database, migrations, artifact folders."""
