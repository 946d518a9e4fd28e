from codecbook.book.figures.weights import verdict_lines
from codecbook.measure.statistics import Interval
from codecbook.probes.weights.probes import Verdict


def test_verdicts_are_told_apart_and_show_what_else_is_possible() -> None:
    passed = Verdict("P1", "a claim", Interval(0.97, 0.96, 0.98, 9), 0.95)
    failed = Verdict("P3", "another", Interval(0.2, 0.1, 0.3, 9), 0.9, {"bound": 0.5})
    figure = verdict_lines([("table", passed), ("rows", failed)])
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["P1  table", "P3  rows"]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(names) == ["claimed", "fails", "no table does better", "passes"]
    gates = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "|" and len(line.get_xdata()) == 1]
    assert [gate for gate in gates if gate in (0.95, 0.9)] == [0.95, 0.9]
