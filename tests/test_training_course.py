"""Limits, and the decay at the end: as the last part of a training, or as a leg of its own."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilvrctl.errors import UsageError
from ilvrctl.training.course import FOR_EVER, Course, Leg, Span, read_seconds, read_span
from ilvrctl.training.recipe import Recipe

PLAIN = Recipe(learning_rate=1.0, warmup=0, batch_size=10, images=1000)
ENDLESS = Recipe(learning_rate=1.0, warmup=0, batch_size=10, images=FOR_EVER)


def test_times_and_spans() -> None:
    assert [read_seconds(text, "--for") for text in ("8h", "90m", "1h30m", "2d")] == [
        28800,
        5400,
        5400,
        172800,
    ]
    assert read_span("22", "--decay") == read_span("22m", "--decay") == Span(seconds=1320)
    assert read_span("0.5", "--decay") == Span(seconds=30)
    assert read_span("5000 pictures", "--decay") == read_span("5000pictures", "--decay") == Span(images=5000)
    for wrong in ("0", "-3", "8 hours", "0 pictures", "5 images", ""):
        with pytest.raises(UsageError, match="--decay"):
            read_span(wrong, "--decay")


def test_a_decay_is_the_last_part_of_what_was_asked_for() -> None:
    course = Course(PLAIN, decay=Span(images=400))
    assert course.leg(590, 0.0, None) is None
    assert course.rate(590, 0.0, None) == 1.0
    leg = course.leg(600, 5.0, None)
    assert leg == Leg(600, 5.0, 1000, math.inf)
    rates = [course.rate(images, 6.0, leg) for images in (600, 700, 800, 1000)]
    assert rates == pytest.approx([1.0, 0.5 + math.sqrt(0.5) / 2, 0.5, 0.0])
    assert (course.share(999, 99.0, leg) < 1, course.share(1000, 99.0, leg)) == (True, 1.0)
    assert course.leg(800, 9.0, leg) is leg


def test_minutes_of_decay_before_a_number_of_pictures_are_reckoned_by_the_pace() -> None:
    course = Course(PLAIN, decay=Span(seconds=60))
    assert course.leg(0, 0.0, None) is None
    assert course.leg(500, 100.0, None) is None  # 5 a second: 100 s are left
    leg = course.leg(700, 140.0, None)  # 60 s are left
    assert leg == Leg(700, 140.0, 1000, math.inf)
    timed = Course(ENDLESS, 600.0, Span(seconds=60))
    assert timed.leg(10**6, 539.0, None) is None
    assert timed.leg(10**6, 540.0, None) == Leg(10**6, 540.0, math.inf, 600.0)


def test_a_training_that_is_done_or_has_no_limit_decays_from_now_on() -> None:
    for course in (Course(PLAIN, decay=Span(seconds=60)), Course(ENDLESS, decay=Span(seconds=60))):
        leg = course.leg(1000, 200.0, None)
        assert leg == Leg(1000, 200.0, math.inf, 260.0)
        assert course.leg(1100, 230.0, leg) is leg  # as after a stop
        assert course.rate(1100, 230.0, leg) == pytest.approx(0.5)
        assert course.share(1100, 230.0, leg) < 1
        assert course.share(1200, 260.0, leg) == 1


def test_a_later_limit_drops_an_old_leg_and_decays_again_at_its_end() -> None:
    old = Leg(600, 5.0, 1000, math.inf)
    course = Course(Recipe(learning_rate=1.0, warmup=0, images=2000), decay=Span(images=400))
    assert course.leg(1000, 9.0, old) is None
    assert course.leg(1600, 9.0, None) == Leg(1600, 9.0, 2000, math.inf)
    assert Course(PLAIN).leg(700, 6.0, old) is None  # no decay is asked for any more


def test_a_leg_starts_from_the_full_rate_after_a_cosine_and_warms_up() -> None:
    recipe = Recipe(learning_rate=1.0, warmup=100, batch_size=10, images=FOR_EVER, decay="cosine")
    course = Course(recipe, decay=Span(images=1000))
    leg = course.leg(0, 0.0, None)
    assert course.rate(0, 0.0, leg) == pytest.approx(0.1)
    assert course.rate(500, 0.0, leg) == pytest.approx(0.5)


@given(
    images=st.integers(0, 10**6),
    seconds=st.floats(0, 1e6),
    limit=st.integers(1, 10**6) | st.just(FOR_EVER),
    time=st.floats(1, 1e6) | st.just(math.inf),
    span=st.builds(Span, seconds=st.floats(1, 1e5)) | st.builds(Span, images=st.integers(1, 10**5)),
)
def test_every_decay_ends_and_its_rate_only_falls(
    images: int, seconds: float, limit: int, time: float, span: Span
) -> None:
    course = Course(Recipe(learning_rate=1.0, warmup=0, images=limit), time, span)
    leg, rates = None, []
    for n in range(400):
        leg = course.leg(images, seconds, leg)
        if leg is not None:
            assert course.leg(images, seconds, Leg(**json.loads(json.dumps(asdict(leg))))) == leg
        share = course.share(images, seconds, leg)
        rates.append(course.rate(images, seconds, leg))
        if share >= 1:
            assert leg is not None
            assert rates[-1] < 1e-9
            break
        images, seconds = images + 1 + images // 7, seconds + 0.5 + seconds / 7
        assert n < 399, "it never ends"
    assert rates == sorted(rates, reverse=True)
