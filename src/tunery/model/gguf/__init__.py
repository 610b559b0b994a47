"""Models and adapters as GGUF files, the form that llama.cpp and what is built on it read."""
