"""The list of pipelines is complete and up to date."""

import diffusers

import pag
from pag.catalog import catalog
from tests import catalog_page

ENTRIES, MISSING = catalog_page.judgements()


def test_every_pipeline_class_is_judged():
    """A new diffusers brings new classes: give each a run in `tests/runs`, or a reason in `tests/catalog_page.py`."""
    assert not MISSING


def test_the_record_and_the_page_are_up_to_date():
    """Otherwise: `python -m tests.catalog_page`."""
    assert catalog_page.RECORD.read_text() == catalog_page.record(ENTRIES)
    assert catalog_page.PAGE.read_text() == catalog_page.page(ENTRIES)


def test_the_record_is_what_users_read():
    version, entries = catalog()
    assert version == diffusers.__version__
    assert list(entries) == ENTRIES


def test_nine_of_ten_with_self_attention_work():
    plain = [entry for entry in ENTRIES if "itself" not in entry.because and entry.verdict != "nothing"]
    assert len([entry for entry in plain if entry.verdict == "works"]) >= 0.9 * len(plain)


def test_every_drop_in_class_exists():
    missing = [entry.drop_in for entry in ENTRIES if entry.verdict == "works" and not hasattr(pag, entry.drop_in)]
    assert not missing
