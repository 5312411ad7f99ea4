"""Stories with their exact output: tests/transcripts/*.txt."""

from pathlib import Path

import pytest
from consensus_transcript import played

TRANSCRIPTS = sorted((Path(__file__).parents[1] / "transcripts").glob("raft_*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(path):
    text = path.read_text()
    assert played(text) == text


def test_there_are_transcripts():
    assert len(TRANSCRIPTS) >= 7
