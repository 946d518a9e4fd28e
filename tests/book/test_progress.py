from codecbook.book import progress


def test_a_line_now_and_then_and_none_of_short_work(capsys):
    times = iter([0.0, 1.0, 14.9, 15.0, 16.0, 29.9, 31.0])
    say = progress.lines(15.0, clock=lambda: next(times))
    for number in range(6):
        say(f"clip {number}")
    assert capsys.readouterr().out == "15 s: clip 2\n31 s: clip 5\n"
