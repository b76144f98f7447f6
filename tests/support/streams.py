"""Real live streams, made with FFmpeg through PyAV, and the playlists a viewer would fetch.

`make_stream` encodes a few seconds of video as HLS segments (MPEG-TS or fragmented MP4) and knows
of every frame at which server time it was shown. `Stream.playlist` is the media playlist as it
stood at a server time: a live stream that moves only when a test says so.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av

from flashsale.streamtime.dates import format_date

FRAME_MS = 40
RATE = 25
PTS_WRAP = 2**33
T0 = 1_795_000_000_000
"""The server time at which streams begin, unless they say otherwise: in November 2026."""

Kind = Literal["ts", "fmp4"]
Dates = Literal["every", "first", "once"]


@dataclass(frozen=True)
class Run:
    """What an encoder does between two starts.

    `server_ms`: when it showed its first frame. `label_ms`: the date it stamped on it; None: the
    true one. `first_frame`: the frame number its PTS start from (PTS = 3,600 a frame).
    """

    seconds: int
    server_ms: int = T0
    label_ms: int | None = None
    first_frame: int = 0


@dataclass(frozen=True)
class Segment:
    """One media segment, with the truth about it."""

    sequence: int
    run: int
    uri: str
    data: bytes
    init: bytes
    server_ms: int
    label_ms: int
    duration_ms: int
    begins_run: bool

    def read_pts(self) -> list[int]:
        """The PTS of its frames as FFmpeg tells them: beyond 33 bits or below 0 at a wrap."""
        with av.open(io.BytesIO(self.init + self.data)) as container:
            video = container.streams.video[0]
            assert video.time_base == Fraction(1, 90_000)
            packets = container.demux(video)
            return sorted(packet.pts for packet in packets if packet.pts is not None)


@dataclass(frozen=True)
class Stream:
    """A live stream: its segments, and how its packager publishes them.

    `delay_ms`: from a frame to the moment its segment (or part) is listed. `parts`: how many parts
    a segment is cut into; 0: none. `listed`: segments in a playlist. `dates`: on which segments
    EXT-X-PROGRAM-DATE-TIME stands: every, the first of the playlist and behind discontinuities, or
    once at the start of each run. `counts_breaks`: whether EXT-X-DISCONTINUITY-SEQUENCE is kept.
    """

    segments: tuple[Segment, ...]
    delay_ms: int = 0
    parts: int = 0
    listed: int = 6
    dates: Dates = "every"
    counts_breaks: bool = True
    cues: tuple[tuple[int, str], ...] = ()
    extinf_error_ms: float = 0.0
    label_shift_ms: int = 0

    def playlist(self, server_ms: int) -> str:
        """The playlist as it stood at a server time. `cues` are pairs (server time, line)."""
        done = [s for s in self.segments if self._is_out(s, s.duration_ms, server_ms)]
        shown = done[-self.listed :]
        following = self.segments[len(done)] if len(done) < len(self.segments) else None
        first = shown[0].sequence if shown else 0
        gone = sum(s.begins_run and s.sequence > 0 for s in self.segments[: first + 1])
        lines = [
            "#EXTM3U",
            "#EXT-X-VERSION:9",
            f"#EXT-X-TARGETDURATION:{max(s.duration_ms for s in self.segments) // 1_000 + 1}",
            f"#EXT-X-MEDIA-SEQUENCE:{first}",
        ]
        if self.counts_breaks:
            lines.append(f"#EXT-X-DISCONTINUITY-SEQUENCE:{gone}")
        if self.parts:
            target = self.segments[0].duration_ms / self.parts / 1_000
            lines.append(f"#EXT-X-PART-INF:PART-TARGET={target:.3f}")
        for segment in shown:
            lines += self._head(segment, is_first=segment is shown[0])
            if segment in shown[-2:]:
                lines += self._parts(segment, self.parts)
            seconds = (segment.duration_ms + self.extinf_error_ms) / 1_000
            lines += [f"#EXTINF:{seconds:.6f},", segment.uri]
        lines += [line for published_ms, line in self.cues if published_ms <= server_ms]
        if following is not None and self.parts:
            lines += self._pending(following, server_ms)
        return "\n".join(lines) + "\n"

    def at(self, server_ms: int) -> Segment:
        """The segment whose frames were shown at a server time."""
        return next(
            s for s in self.segments if s.server_ms <= server_ms < s.server_ms + s.duration_ms
        )

    def label_at(self, server_ms: int) -> int:
        """The position, by the stream's labels, of the frame shown at a server time."""
        segment = self.at(server_ms)
        return segment.label_ms + self.label_shift_ms + server_ms - segment.server_ms

    @property
    def end_ms(self) -> int:
        """When the last segment is listed."""
        return self.segments[-1].server_ms + self.segments[-1].duration_ms + self.delay_ms

    def _is_out(self, segment: Segment, upto_ms: int, server_ms: int) -> bool:
        return segment.server_ms + upto_ms + self.delay_ms <= server_ms

    def _head(self, segment: Segment, *, is_first: bool) -> list[str]:
        lines = []
        if segment.begins_run and segment.sequence > 0 and not is_first:
            lines.append("#EXT-X-DISCONTINUITY")
        dated = {
            "every": True,
            "first": is_first or segment.begins_run,
            "once": segment.begins_run,
        }[self.dates]
        if dated:
            date = format_date(segment.label_ms + self.label_shift_ms)
            lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{date}")
        return lines

    def _parts(self, segment: Segment, count: int) -> list[str]:
        seconds = segment.duration_ms / max(self.parts, 1) / 1_000
        return [
            f'#EXT-X-PART:DURATION={seconds:.3f},URI="{segment.uri}.{index}"'
            for index in range(count)
        ]

    def _pending(self, segment: Segment, server_ms: int) -> list[str]:
        """The parts of the segment that is being made, and the hint of the next one."""
        length_ms = segment.duration_ms // self.parts
        count = sum(
            self._is_out(segment, length_ms * (index + 1), server_ms) for index in range(self.parts)
        )
        lines = self._head(segment, is_first=False) if count else []
        lines += self._parts(segment, count)
        return [*lines, f'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="{segment.uri}.{count}"']


def make_stream(runs: Sequence[Run], kind: Kind = "ts") -> Stream:
    """Encode runs, with a discontinuity between each two, into segments of one second."""
    segments: list[Segment] = []
    for number, run in enumerate(runs):
        init, files = encode(run, kind)
        for index, data in enumerate(files):
            passed_ms = index * 1_000
            label_ms = run.server_ms if run.label_ms is None else run.label_ms
            segments.append(
                Segment(
                    sequence=len(segments),
                    run=number,
                    uri=f"{number}-{index}.{'ts' if kind == 'ts' else 'm4s'}",
                    data=data,
                    init=init,
                    server_ms=run.server_ms + passed_ms,
                    label_ms=label_ms + passed_ms,
                    duration_ms=1_000,
                    begins_run=index == 0,
                )
            )
    return Stream(tuple(segments))


def encode(run: Run, kind: Kind) -> tuple[bytes, list[bytes]]:
    """One run as the initialisation section ("" for MPEG-TS) and its segments, by FFmpeg."""
    with tempfile.TemporaryDirectory(prefix="flashsale-stream-") as name:
        folder = Path(name)
        write_hls(folder, run, kind)
        init = folder / "init.mp4"
        files = [folder / f"{index}.seg" for index in range(run.seconds)]
        return init.read_bytes() if init.exists() else b"", [f.read_bytes() for f in files]


def write_hls(folder: Path, run: Run, kind: Kind) -> Path:
    """Encode a run into a folder with FFmpeg's own HLS muxer; the playlist it wrote."""
    playlist = folder / "live.m3u8"
    options = {
        "hls_time": "1",
        "hls_list_size": "0",
        "hls_flags": "program_date_time",
        "hls_segment_type": "fmp4" if kind == "fmp4" else "mpegts",
        "hls_segment_filename": str(folder / "%d.seg"),
    }
    with av.open(str(playlist), "w", format="hls", options=options) as container:
        # Every build has these two; MPEG-2 has its headers in each segment, as MPEG-TS needs them.
        video = container.add_stream("mpeg4" if kind == "fmp4" else "mpeg2video", rate=RATE)
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        video.gop_size = RATE
        video.codec_context.time_base = Fraction(1, RATE)
        video.time_base = Fraction(1, 90_000)
        for index in range(run.seconds * RATE):
            frame = av.VideoFrame(32, 32, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            frame.pts = run.first_frame + index
            frame.time_base = Fraction(1, RATE)
            container.mux(video.encode(frame))
        container.mux(video.encode())
    return playlist
