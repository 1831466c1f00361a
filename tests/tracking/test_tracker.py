from mono3d.tracking.tracker import NullTracker, Tracker


def test_null_tracker_is_a_tracker() -> None:
    assert isinstance(NullTracker(), Tracker)
    assert NullTracker().run_id is None
