"""Runs the native core's C++ under AddressSanitizer and UndefinedBehaviorSanitizer: `make sanitize`.

Without --fuzz: the seed frames in core/native/fuzz/corpus, frames of the recordings where there are any, damaged copies
of both, random operations of the book against std::map, random orders through exposure and the checks,
and random answers of a venue. With --fuzz SECONDS: libFuzzer over the same target (needs
Clang). Python takes no part in what is tested.

examples:
  python deploy/sanitize.py
  python deploy/sanitize.py --seed 7 --mutations 1000000 --operations 1000000
  python deploy/sanitize.py --fuzz 600
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "core" / "native"
FUZZ = SOURCES / "fuzz"
CORE = (
    "book.cpp",
    "decoder.cpp",
    "exact.cpp",
    "exposure.cpp",
    "journal.cpp",
    "money.cpp",
    "records.cpp",
    "risk.cpp",
    "scanner.cpp",
    "sha256.cpp",
    "wire.cpp",
)
BUILD = ROOT / "build" / "sanitize"
FLAGS = ("-std=c++2b", "-O1", "-g1", "-Wall", "-Wextra", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all")
SANITIZERS = "address,undefined"
FRAMES_PER_RECORDING = 300
FUZZ_MAX_BYTES = 4096


class NoCompilerError(Exception):
    """Says which compiler is missing and where it comes from."""


def compiler_of(candidates: tuple[str, ...], needed_for: str, install: str) -> str:
    named = os.environ.get("CXX", "")  # noqa: TID251 (no service, no settings)
    for name in (named, *candidates):
        if name and shutil.which(name):
            return name
    raise NoCompilerError(f"{needed_for} needs a C++ compiler: none of {', '.join(candidates)} is there. {install}")


def build(target: str, sources: tuple[str, ...], sanitizers: str, compiler: str) -> Path:
    """The program, built anew when a source is newer. One translation unit: that halves the time it takes."""
    program = BUILD / target
    newest = max(path.stat().st_mtime for path in (*SOURCES.glob("*.[ch]pp"), *FUZZ.glob("*.[ch]pp"), Path(__file__)))
    if program.exists() and program.stat().st_mtime > newest:
        return program
    BUILD.mkdir(parents=True, exist_ok=True)
    unit = "".join(
        f'#include "{path}"\n' for path in (*(FUZZ / name for name in sources), *(SOURCES / c for c in CORE))
    )
    fresh = program.with_suffix(f".{os.getpid()}")
    command = [compiler, *FLAGS, f"-fsanitize={sanitizers}", "-x", "c++", "-", "-o", str(fresh)]
    subprocess.run(command, input=unit, text=True, check=True)
    return fresh.rename(program)


def recorded_frames(folder: Path) -> list[Path]:
    """Files of depth messages and snapshots as received, a few hundred of each recording."""
    found = []
    for recording in sorted(folder.glob("*.gz")):
        with gzip.open(recording) as lines:
            raw = (line.partition(b" ")[2] for line in lines)
            frames = [line for line in islice(raw, 20_000) if b'"depthUpdate"' in line or b'"lastUpdateId"' in line]
        if frames:
            target = BUILD / f"{recording.stem}.frames"
            target.write_bytes(b"".join(frames[:FRAMES_PER_RECORDING]))
            found.append(target)
    return found


def check(seed: int, mutations: int, operations: int, recordings: Path) -> int:
    """Run the driver. Raises NoCompilerError."""
    install = "Debian and Ubuntu: apt-get install g++. macOS: xcode-select --install"
    compiler = compiler_of(("c++", "g++", "clang++"), "The sanitizer test", install)
    program = build(
        "driver", ("driver.cpp", "exposure_target.cpp", "frames_target.cpp", "wire_target.cpp"), SANITIZERS, compiler
    )
    inputs = [*sorted((FUZZ / "corpus").iterdir()), *recorded_frames(recordings)]
    options = ("--seed", str(seed), "--mutations", str(mutations), "--operations", str(operations))
    return subprocess.run([str(program), *options, *map(str, inputs)], check=False).returncode


def fuzz(seconds: int, recordings: Path) -> int:
    """Run libFuzzer on a corpus that grows in build/. Raises NoCompilerError."""
    install = "Debian and Ubuntu: apt-get install clang libclang-rt-dev"
    compiler = compiler_of(("clang++", *(f"clang++-{version}" for version in range(22, 15, -1))), "libFuzzer", install)
    program = build("fuzzer", ("frames_target.cpp",), f"fuzzer,{SANITIZERS}", compiler)
    corpus, seeds = BUILD / "corpus", BUILD / "seeds"
    for folder in (corpus, seeds):
        folder.mkdir(exist_ok=True)
    for file in recorded_frames(recordings):
        for number, line in enumerate(file.read_bytes().splitlines()):
            if len(line) < FUZZ_MAX_BYTES:
                (seeds / f"{file.stem}-{number}").write_bytes(line)
    limits = (f"-max_total_time={seconds}", f"-max_len={FUZZ_MAX_BYTES}", "-print_final_stats=1")
    dictionary = f"-dict={FUZZ / 'frames.dict'}"
    command = [str(program), *limits, dictionary, str(corpus), str(FUZZ / "corpus"), str(seeds)]
    return subprocess.run(command, check=False, cwd=BUILD).returncode


def main() -> int:
    """What the sanitizers found decides."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="of damage and operations (default 1)")
    parser.add_argument("--mutations", type=int, default=50_000, help="damaged frames (default 50000)")
    parser.add_argument("--operations", type=int, default=100_000, help="messages to random books (default 100000)")
    parser.add_argument("--fuzz", type=int, metavar="SECONDS", help="run libFuzzer for so long instead")
    options = parser.parse_args()
    default = ROOT.parent / "shared" / "recordings"
    recordings = Path(os.environ.get("VELOZ_RECORDINGS", default))  # noqa: TID251 (no service, no settings)
    BUILD.mkdir(parents=True, exist_ok=True)
    try:
        if options.fuzz is not None:
            return fuzz(options.fuzz, recordings)
        return check(options.seed, options.mutations, options.operations, recordings)
    except NoCompilerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(f"error: the C++ sources don't compile (exit code {error.returncode}, see above)", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
