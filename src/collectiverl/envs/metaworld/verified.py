"""On which tasks EnvPool's environment is Meta-World's; `tests/test_parity.py` measures it.

Verified is a task on which, from the same goal with the same actions, frames agree within 1 cm and rewards
within 0.1 of 10 for the first ten steps, and on which whole episodes of the scripted policy have the same
return within 5 % and the same success rate. Most agree to the eighth digit until a contact amplifies
rounding. One thing is not asked for: the very first frame of `window-close-v3`, which in Meta-World alone
shows the handle 20 cm from where it is.
"""

LIVE_PAD = (
    "its reward measures from where the left pad began; Meta-World keeps a live view of the pad instead of a "
    "copy, EnvPool a copy"
)

DIFFERS = {
    "bin-picking-v3": "the object lands turned differently, 1 cm away, in the first ten steps",
    "box-close-v3": "rewards part by 0.2 in the first ten steps; returns by 10 % (standard error 10 %)",
    "button-press-topdown-wall-v3": "EnvPool's reward stays near 0",
    "dial-turn-v3": "EnvPool's scripted policy never succeeds",
    "disassemble-v3": "at some goals the nut lies otherwise from the first frame on",
    "door-close-v3": "the door moves otherwise from the second step on",
    "door-lock-v3": LIVE_PAD,
    "handle-press-v3": "where the hand begins on the handle, rewards part by 0.5 in the first ten steps",
    "lever-pull-v3": "the lever's quaternion is another",
    "peg-unplug-side-v3": "at some goals frames or rewards part in the first ten steps",
    "push-back-v3": LIVE_PAD,
    "soccer-v3": LIVE_PAD,
    "stick-pull-v3": "undecided: returns differ by 14 % (standard error 17 %)",
    "stick-push-v3": "returns differ by 7 % (standard error 3 %)",
    "sweep-into-v3": LIVE_PAD,
    "sweep-v3": LIVE_PAD,
}

VERIFIED = frozenset(
    {
        "assembly-v3",
        "basketball-v3",
        "button-press-topdown-v3",
        "button-press-v3",
        "button-press-wall-v3",
        "coffee-button-v3",
        "coffee-pull-v3",
        "coffee-push-v3",
        "door-open-v3",
        "door-unlock-v3",
        "drawer-close-v3",
        "drawer-open-v3",
        "faucet-close-v3",
        "faucet-open-v3",
        "hammer-v3",
        "hand-insert-v3",
        "handle-press-side-v3",
        "handle-pull-side-v3",
        "handle-pull-v3",
        "peg-insert-side-v3",
        "pick-out-of-hole-v3",
        "pick-place-v3",
        "pick-place-wall-v3",
        "plate-slide-back-side-v3",
        "plate-slide-back-v3",
        "plate-slide-side-v3",
        "plate-slide-v3",
        "push-v3",
        "push-wall-v3",
        "reach-v3",
        "reach-wall-v3",
        "shelf-place-v3",
        "window-close-v3",
        "window-open-v3",
    }
)
