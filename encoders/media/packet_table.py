"""The packets of a video stream as a table, and how far from its start the decoder must be asked what it shows and when.

Most containers say enough: each packet that shows a picture has a time of its own, and the times ascend in the order in which the
codec shows its pictures. Where they do not (times that are missing, doubled or made up, a recording that begins in the middle of a
group of pictures), the frames are those that the decoder gives, in its order.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

NO_TIME = -(1 << 63)
"""FFmpeg's number for a time that is not told."""
# As FFmpeg's command: a jump of more seconds forwards, or backwards, is a new beginning of the clock and no pause.
_FORWARDS_S, _BACKWARDS_S = 10.0, 0.1
# In a file that is no broadcast only one that no pause is as long as.
_WRAPPED_S = 1e6
_MOST_FILES = 1000
"""That anybody appends to each other."""
_MOST_REORDERED = 32
"""Packets at a joint among which the last picture shown, or the first, is looked for."""
_MOST_BACK = 2
"""Times of showing that a lost or cut start makes fall; where more do, they were made up."""


class PacketRow(NamedTuple):
    """One packet, as the container and the headers of its picture have it."""

    pts: int | None
    dts: int | None
    duration: int
    is_keyframe: bool
    """Whether decoding may start here."""
    is_shown: bool
    order: int | None
    """See picture_headers.Picture."""
    offset: int
    """Of its bytes in the file; with the size it tells which packet a seek has come to."""
    size: int


class DecodedStart(NamedTuple):
    """The frames that the decoder gave for the first packets of a video, in its order."""

    num_packets: int
    positions: np.ndarray
    """Of the packets whose pictures they are."""
    pts: np.ndarray
    """Ascending."""


class PacketTable:
    """The columns of all packets, in decoding order."""

    def __init__(
        self,
        rows: Sequence[PacketRow],
        *,
        has_false_keyframes: bool = False,
        has_gaps: bool = False,
        is_truncated: bool = False,
    ) -> None:
        """For the reader to say: keyframes that are none (see picture_headers), lost parts of a broadcast, an end that is missing."""
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(PacketRow._fields)
        pts, dts, duration, is_keyframe, is_shown, order, offset, size = columns
        self.pts, self.dts = _times(pts), _times(dts)
        self.duration = np.array(duration, np.int64)
        self.is_keyframe = np.array(is_keyframe, bool)
        self.is_shown = np.array(is_shown, bool)
        self.has_order = np.array([value is not None for value in order], bool)
        self.order = np.array([value or 0 for value in order], np.int64)
        self.places = np.array([offset, size], np.int64).T
        self.has_false_keyframes = has_false_keyframes
        self.has_gaps, self.is_truncated = has_gaps, is_truncated

    def __len__(self) -> int:
        return len(self.pts)

    def join_clocks(self, time_base: Fraction, *, is_broadcast: bool) -> None:
        """Lets times go on where they jump: a broadcast's clock begins anew with every splice and every lost signal, that of files which
        were appended to each other with every file, and one of 32 bits where it is full.
        """
        if is_broadcast:
            self._forget_damaged_times(time_base)
        known = np.flatnonzero(self.dts != NO_TIME)
        if len(known) < 2:
            return
        dts = self.dts[known].astype(np.float64)
        steps = np.diff(dts)
        expected = np.maximum(self.duration[known][:-1].astype(np.float64), 0)
        forwards_s = _FORWARDS_S if is_broadcast else _WRAPPED_S
        is_jump = steps < -_BACKWARDS_S / float(time_base)
        is_jump |= np.abs(steps - expected) > forwards_s / time_base
        if not is_broadcast and is_jump.sum() > _MOST_FILES:  # times that mean nothing
            return
        usual = int(np.median(steps)) if len(steps) else 0
        shift = np.zeros(len(self), np.int64)
        for jump in np.flatnonzero(is_jump).tolist():
            step = int(expected[jump]) or usual
            after = int(known[jump + 1])
            shift[after:] += step - int(steps[jump])
            if not is_broadcast and steps[jump] < 0:
                # Times of decoding are made up at the start of a file, at another distance from those of showing.
                shift[after:] += self._gap(after, step, shift)
        self.pts = np.where(self.pts == NO_TIME, NO_TIME, self.pts + shift)
        self.dts = np.where(self.dts == NO_TIME, NO_TIME, self.dts + shift)

    def _gap(self, after: int, step: int, shift: np.ndarray) -> int:
        """What lacks so that the first picture shown of the packets from `after` on comes one step behind the last one before."""
        shown = np.flatnonzero(self.is_shown & (self.pts != NO_TIME))
        cut = int(np.searchsorted(shown, after))
        before, behind = shown[:cut], shown[cut : cut + _MOST_REORDERED]
        if not len(before) or not len(behind):
            return 0
        last = (self.pts + shift)[before[-_MOST_REORDERED:]].max()
        return int(last + step - (self.pts + shift)[behind].min())

    def _forget_damaged_times(self, time_base: Fraction) -> None:
        """Of a packet whose two times lie far apart, one is damaged: the decoding time if it leaves those before it, else the other."""
        most = _FORWARDS_S / time_base
        is_timed = (self.dts != NO_TIME) & (self.pts != NO_TIME)
        is_far = is_timed & (np.abs(np.where(is_timed, self.pts - self.dts, 0)) > most)
        if not is_far.any():
            return
        whole = np.flatnonzero(is_timed & ~is_far)
        for packet in np.flatnonzero(is_far).tolist():
            before = whole[np.searchsorted(whole, packet) - 1] if len(whole) else packet
            is_dts_damaged = abs(int(self.dts[packet]) - int(self.dts[before])) > most
            (self.dts if is_dts_damaged else self.pts)[packet] = NO_TIME

    def num_to_decode(self) -> int:
        """Packets at the start, up to a keyframe, whose frames only the decoder can tell; 0 = the table tells all."""
        is_odd = np.zeros(len(self), bool)
        shown = np.flatnonzero(self.is_shown)
        is_odd[shown[self.pts[shown] == NO_TIME]] = True
        timed = shown[self.pts[shown] != NO_TIME]
        by_time = timed[np.argsort(self.pts[timed], kind="stable")]
        is_doubled = np.diff(self.pts[by_time]) == 0
        is_odd[by_time[:-1][is_doubled]] = is_odd[by_time[1:][is_doubled]] = True
        by_time = by_time[self.has_order[by_time]]
        by_order = np.sort(by_time)
        by_order = by_order[np.argsort(self.order[by_order], kind="stable")]
        contradict = by_time != by_order
        is_odd[by_time[contradict]] = is_odd[by_order[contradict]] = True
        is_odd[self._leading()] = True
        odd = np.flatnonzero(is_odd)
        if not len(odd):
            return 0
        after = np.flatnonzero(self.is_keyframe[odd[-1] + 1 :])
        return int(odd[-1] + 1 + after[0]) if len(after) else len(self)

    def _leading(self) -> np.ndarray:
        """Packets before the first keyframe, and those behind it that are shown before it: what they refer to is not there."""
        keyframes = np.flatnonzero(self.is_keyframe)[:2]
        if not len(keyframes):
            return np.arange(min(len(self), 1))
        first = int(keyframes[0])
        group = np.arange(first + 1, keyframes[1] if len(keyframes) > 1 else len(self))
        group = group[self.is_shown[group]]
        is_before = self.pts[group] < self.pts[first]
        return np.concatenate([np.arange(first), group[is_before & self.is_shown[first]]])

    def start_decoded(
        self, num_packets: int, frames: Sequence[tuple[int, int | None]]
    ) -> DecodedStart:
        """`frames` that the decoder gave for the first `num_packets`, in its order: (position of its packet, dts when it came)."""
        positions = np.array([position for position, _ in frames], np.int64)
        rest = self.pts[num_packets:][self.is_shown[num_packets:]]
        rest = rest[rest != NO_TIME]
        pts, dts = self.pts[positions], _times([dts for _, dts in frames])
        # Where many times of showing fall, those are made up, and those of decoding hold.
        num_back = int((np.diff(pts[pts != NO_TIME]) < 0).sum())
        is_by_pts = (pts != NO_TIME).sum() * 2 > len(pts) and (
            _num_falling(pts) <= _num_falling(dts) or 0 < num_back <= _MOST_BACK
        )
        chosen = _chosen_times(pts, dts) if is_by_pts else dts
        durations = self.duration[self.duration > 0]
        usual = float(np.median(durations)) if len(durations) else 1.0
        times = np.sort(_filled(chosen, step=usual))
        if not is_by_pts and len(times) and len(rest):  # dts are earlier by the decoder's delay
            step = int(np.median(np.diff(times))) if len(times) > 1 else 0
            times = times + (int(rest.min()) - step - int(times[-1]))
        return DecodedStart(num_packets, positions, times)


def _times(values: Sequence[int | None]) -> np.ndarray:
    return np.array([NO_TIME if value is None else value for value in values], np.int64)


def _num_falling(times: np.ndarray) -> int:
    known = times[times != NO_TIME]
    return int((known[1:] <= known[:-1]).sum())


def _chosen_times(pts: np.ndarray, dts: np.ndarray) -> np.ndarray:
    """Of each frame the time of showing, or that of decoding where more of the former have fallen so far, as FFmpeg."""
    chosen = np.full(len(pts), NO_TIME, np.int64)
    last_pts = last_dts = NO_TIME
    num_falling = 0  # of the times of showing, less those of decoding
    for n, (shown, decoded) in enumerate(zip(pts.tolist(), dts.tolist(), strict=True)):
        num_falling += NO_TIME < shown <= last_pts
        num_falling -= NO_TIME < decoded <= last_dts
        last_pts = decoded if shown == NO_TIME else shown
        last_dts = shown if decoded == NO_TIME else decoded
        is_pts = shown != NO_TIME and (num_falling <= 0 or decoded == NO_TIME)
        chosen[n] = shown if is_pts else decoded
    return chosen


def _filled(times: np.ndarray, *, step: float) -> np.ndarray:
    """Times that are not told lie evenly between their neighbours, or go on at the usual step; `step` where no two are told."""
    known = np.flatnonzero(times != NO_TIME)
    if len(known) == len(times):
        return times
    if not len(known):
        return np.round(np.arange(len(times)) * step).astype(np.int64)
    steps = np.diff(times[known].astype(np.float64)) / np.diff(known)
    step = float(np.median(steps)) if len(steps) else step
    places = np.arange(len(times))
    filled = np.interp(places, known, times[known].astype(np.float64))
    filled += np.minimum(places - known[0], 0) * step + np.maximum(places - known[-1], 0) * step
    return np.where(times == NO_TIME, np.round(filled), times).astype(np.int64)
