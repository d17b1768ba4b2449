"""Notes: reading files of knowledge and cutting them into retrieval passages."""
