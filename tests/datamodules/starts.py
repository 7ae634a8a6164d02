"""Whether a text can be read from any document on."""


def check_starts(text, starts=(0, 1, 2, 3, 7, 8, 9, 31, 32, 33, 10_000)):
    """Check that `train(start)` continues as `train()` does; return all training documents."""
    documents = list(text.train())
    for start in (*starts, len(documents) - 1, len(documents), len(documents) + 1):
        assert list(text.train(start)) == documents[start:], start
        assert list(text.train(start=start)) == documents[start:], "again, with what is known from before"
    return documents
