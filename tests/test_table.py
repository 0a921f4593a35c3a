"""The one table: every layout of the same columns and rows, by hand."""

import pytest

from agents.runs.table import Column, Table
from agents.statistics import Interval

COLUMNS = (
    Column("name", "who <looks>", kind="text"),
    Column("R1", spec=".1f", width=8),
    Column("gain", "gain ± 95%", "+.1f", "margin"),
    Column("iqm", "IQM [95%]", ".2f", "interval"),
    Column("share", spec=".0%"),
)
ROWS = [
    {"name": "agent", "R1": 12.345, "gain": Interval(2.0, 1.5, 2.5), "iqm": Interval(0.5, 0.25, 1), "share": 0.5},
    {"name": "a|b & c", "R1": None, "gain": Interval(-2.0), "iqm": Interval(0.5), "share": 1.234},
]


def test_text_has_numbers_to_the_right_and_texts_to_the_left():
    assert Table(COLUMNS, ROWS).text().splitlines() == [
        "who <looks>        R1  gain ± 95%          IQM [95%]  share",
        "agent            12.3  +2.0 ± 0.5  0.50 [0.25, 1.00]    50%",
        "a|b & c             -        -2.0               0.50   123%",
    ]


def test_rows_by_name_have_a_first_column_without_a_head():
    table = Table.of({"agent": {"R1": 12.345, "other": 7}, "random bins": {"R1": 100.0}}, COLUMNS[1:3])
    assert table.text().splitlines() == [
        "                   R1  gain ± 95%",
        "agent            12.3           -",
        "random bins     100.0           -",
    ]


def test_columns_that_nobody_has_a_value_in_can_be_left_out():
    rows = [{"name": "a", "R1": None}, {"name": "b", "share": 0.0}]
    assert [column.name for column in Table(COLUMNS, rows).known().columns] == ["name", "share"]


def test_markdown_keeps_its_cells_apart():
    assert Table(COLUMNS[:3], ROWS).markdown().splitlines() == [
        "| who <looks> | R1 | gain ± 95% |",
        "| --- | --- | --- |",
        "| agent | 12.3 | +2.0 ± 0.5 |",
        r"| a\|b & c | - | -2.0 |",
    ]


def test_html_is_escaped():
    assert Table(COLUMNS[:2], ROWS[1:]).html() == (
        "<table><tr><th>who &lt;looks&gt;</th><th>R1</th></tr><tr><td>a|b &amp; c</td><td>-</td></tr></table>"
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["name,R1,gain_value,gain_low,gain_high", "agent,12.345,2.0,1.5,2.5", "a|b & c,,-2.0,,"]),
        (
            {"digits": 2, "value_ending": ""},
            ["name,R1,gain,gain_low,gain_high", "agent,12.35,2.00,1.50,2.50", "a|b & c,,-2.00,,"],
        ),
    ],
)
def test_csv_has_bounds_of_intervals_in_columns_of_their_own(options, expected):
    assert Table(COLUMNS[:3], ROWS).csv(**options).splitlines() == expected


def test_a_column_of_intervals_that_nobody_has_keeps_its_heads():
    assert Table(COLUMNS[2:3], [{}]).csv().splitlines() == ["gain_value,gain_low,gain_high", ",,"]
