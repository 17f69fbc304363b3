"""A catalogue: a file of imported jobs that people review, and that DAGs are made from."""
