from undistill.base.settings import LONGEST, unknown_key


def test_a_key_that_nobody_wrote_by_hand_is_cut() -> None:
    assert unknown_key("stepz", ["steps", "size"]) == "unknown key stepz; did you mean steps?"
    assert len(unknown_key("1" * 5000, ["steps"])) < LONGEST + 40
