"""The README's table."""

from deploy.tables import ROOT, draw_table


def test_the_readme_has_the_table_that_the_cards_give() -> None:
    assert f"\n{draw_table()}<!-- END -->\n" in (ROOT / "README.md").read_text(encoding="utf-8")
