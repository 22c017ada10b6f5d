"""The scripts of `shell_host.py` as text: POSIX shell with GNU coreutils; every word that is not ours is quoted where it enters.

Layout below the remote folder, all of it readable for the user alone:

``builds/DIGEST/``  ``program/`` and SHA256SUMS, whose own SHA-256 is DIGEST; shared by all runs of the build, never written again
``runs/RUN/``       job.sh, inputs/, and what comes to be: submit/ (somebody submits), job (its number), claim/ (it began), log,
                    results.npz, exit (how it ended, written last), slurm.log, cancelled
``incoming/RUN/``   what is being copied; renamed into the two others when its checksums are right
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

INRC_PATH = "/nfs/ncl/bin"
"""Where INRC's users find slurm's commands (public user scripts); harmless elsewhere."""

_HASH = """\
if command -v sha256sum >/dev/null 2>&1; then sums() { sha256sum "$@"; }; else sums() { shasum -a 256 "$@"; }; fi
sound() {
  ( cd "$1" && [ "$(sums SHA256SUMS | cut -c1-64)" = "$2" ] && sums -c SHA256SUMS &&
    [ "$(find . -type f ! -path '*/__pycache__/*' ! -name SHA256SUMS | wc -l)" -eq "$(wc -l <SHA256SUMS)" ] ) >/dev/null 2>&1
}
"""
_SLURM = f"""\
PATH=$PATH:{INRC_PATH}
found() {{ squeue -h -n "$1" -o '%T %i' 2>/dev/null; }}
state() {{
  if line=$(found "$1"); then
    line=$(printf '%s\\n' "$line" | head -n 1)
    state=${{line%% *}}
    [ -n "$state" ] || state=$(scontrol show job "$2" 2>/dev/null | sed -n 's/.*JobState=\\([A-Z_]*\\).*/\\1/p' | head -n 1)
    [ -n "$state" ] || state=$(sacct -n -X -P -j "$2" -o State 2>/dev/null | head -n 1)
    printf '%s' "${{state:-GONE}}"
  fi
}}
number() {{ found "$1" | head -n 1 | cut -d' ' -f2; }}
stop() {{ scancel "$2"; }}
"""
_LOGIN = """\
here() { [ "$(cat host 2>/dev/null)" = "$(hostname)" ]; }
ours() {
  kill -0 "${1#pid-}" 2>/dev/null && { [ ! -d /proc/self ] || [ "$(readlink "/proc/${1#pid-}/cwd")" = "$(pwd -P)" ]; }
}
state() {
  here || return 0
  if ours "$2"; then printf RUNNING; else printf GONE; fi
}
number() { :; }
stop() {
  here || { echo "the job runs on $(cat host), not on $(hostname)" >&2; return 1; }
  ! ours "$2" || kill -s TERM -- "-${2#pid-}"
}
"""
_DIGEST_OF_RESULTS = (
    'import hashlib; h = hashlib.sha256(); f = open("results.npz", "rb"); '
    'any(h.update(b) for b in iter(lambda: f.read(1 << 20), b"")); print(h.hexdigest(), f.tell())'
)


def job_name(run: str) -> str:
    """Name of a run's job."""
    return f"nc-{run}"


def scheduler(launch: str) -> str:
    """Functions state, number and stop for a way of launching."""
    return _SLURM if launch == "sbatch" else _LOGIN


def python_word(python: str) -> str:
    """Return the interpreter as a word of a script; ``~/`` is the home folder there."""
    return f'"$HOME"/{shlex.quote(python[2:])}' if python.startswith("~/") and len(python) > 2 else shlex.quote(python)


def job_script(
    *, python: str, digest: str, arguments: Sequence[str], environment: Sequence[tuple[str, str]], path: str = "", afterwards: str = ""
) -> str:
    """Return job.sh: it runs the program in its run's folder, once, and says last how that ended; ``path`` is added to PATH,
    ``afterwards`` is Python that runs when the program has ended."""
    word = python_word(python)
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment)
    unset = "unset NOSLURM\n" if any(name == "SLURM" for name, _ in environment) else ""
    more = f"PATH=$PATH:{path}\n" if path else ""
    last = f"{word} -c {shlex.quote(afterwards)} >>log 2>&1\n" if afterwards else ""
    return (
        "#!/bin/sh\n"
        "# One run of one build; written by neurocompile deploy.\n"
        "umask 077\n"
        "job=${SLURM_JOB_ID:-pid-$$}\n"
        'mkdir claim || { echo "this run was begun before" >&2; exit 75; }\n'
        "printf '%s\\n' \"$job\" >claim/job\n"
        f"{more}{unset}{exports}"
        f"{word} ../../builds/{digest}/program/run.py {shlex.join(arguments)} >>log 2>&1\n"
        "code=$?\n"
        f"{last}"
        "results='- -'\n"
        f"[ ! -f results.npz ] || results=$({word} -c {shlex.quote(_DIGEST_OF_RESULTS)}) || results='? -'\n"
        "results=$(printf '%s\\n' \"$results\" | tail -n 1)\n"  # an interpreter's start-up may print
        'printf \'%s %s %s\\n\' "$code" "$(($(wc -c <log)))" "$results" >exit.tmp && mv exit.tmp exit\n'
        'exit "$code"\n'
    )


def look_up(base: str, run: str, digest: str) -> str:
    """Script: make the folders; say what the host has."""
    return f"""\
umask 077
PATH=$PATH:{INRC_PATH}
{_HASH}
mkdir -p {base}/builds {base}/runs {base}/incoming || fail 'the remote folder cannot be made'
cd {base} || fail 'the remote folder cannot be entered'
mkdir -p incoming/{run} || fail 'the remote folder cannot be written'
say rsync "$(command -v rsync)"
say sbatch "$(command -v sbatch)"
if [ -f runs/{run}/job.sh ]; then say run present; else say run absent; fi
if [ ! -d builds/{digest} ]; then say build absent
elif sound builds/{digest} {digest}; then say build present
else say build damaged; fi
"""


def receive(base: str, run: str, digest: str) -> str:
    """Script: check what was copied, and rename it to where it belongs."""
    return f"""\
{_HASH}
cd {base}/incoming/{run} || fail 'what was copied is gone'
( cd tree && sums -c SHA256SUMS ) >/dev/null 2>&1 || {{ rm -rf tree; say damaged yes; return; }}
if [ -d tree/build ]; then
  place=../../builds/{digest}
  if [ -d "$place" ] && ! sound "$place" {digest}; then
    rm -rf damaged
    mv -T "$place" damaged || fail 'the damaged build cannot be moved away'
  fi
  [ -d "$place" ] || mv -T tree/build "$place" || [ -d "$place" ] || fail 'the build cannot be renamed'
fi
[ -d ../../runs/{run} ] || mv -T tree/run ../../runs/{run} || fail 'the run cannot be renamed'
cd ../.. && rm -rf incoming/{run}
"""


def submit(base: str, run: str, launch: str, options: Sequence[str]) -> str:
    """Script: start the job unless that was done; say its number, why it was refused, or ``again`` if an earlier try came to nothing."""
    name = job_name(run)
    if launch == "sbatch":
        words = ["sbatch", "--parsable", f"--job-name={name}", "--output=slurm.log", "--no-requeue", *options, "job.sh"]
        start = f"id=$({shlex.join(words)} 2>refused) && id=${{id%%;*}}"
    else:
        start = "{ hostname >host; setsid nohup sh job.sh >slurm.log 2>&1 & id=pid-$!; }"
    return f"""\
umask 077
{scheduler(launch)}
cd {base}/runs/{run} || fail 'the run is gone from the host'
[ ! -e cancelled ] || {{ say cancelled yes; return; }}
if [ ! -s job ]; then
  if mkdir submit 2>/dev/null; then
    if {start} && [ -n "$id" ]; then
      printf '%s\\n' "$id" >job.tmp && mv job.tmp job || fail 'the number of the job cannot be written'
    else
      rmdir submit
      say refused "$(head -c 500 refused 2>/dev/null)"
      return
    fi
  elif [ ! -d submit ]; then
    fail 'the remote folder cannot be written'
  else
    tries=0
    while [ ! -s job ] && [ "$tries" -lt 15 ]; do sleep 1; tries=$((tries + 1)); done
    if [ ! -s job ]; then
      if [ -s claim/job ]; then cp claim/job job.tmp; else number {name} >job.tmp; fi
      if [ -s job.tmp ]; then mv job.tmp job; else rmdir submit 2>/dev/null; say again yes; return; fi
    fi
  fi
fi
say job "$(head -n 1 job)"
"""


def look(base: str, run: str, job: str, launch: str, *, offset: int, limit: int, ask: bool) -> str:
    """Script: how the job is (``exit``, then ``state`` if asked), and its log from a byte on."""
    state = f"$(state {job_name(run)} {shlex.quote(job)})"
    asked = f'[ -n "$ended" ] || {{ say state "{state}"; say slurm "$(tail -c 500 slurm.log 2>/dev/null)"; }}'
    return f"""\
{scheduler(launch)}
cd {base}/runs/{run} || fail 'the run is gone from the host'
ls . >/dev/null
ended=
[ ! -f exit ] || ended=$(cat exit)
say exit "$ended"
{asked if ask else ":"}
size=0
[ ! -f log ] || size=$(($(wc -c <log)))
say size "$size"
count=$((size - {offset}))
[ "$count" -ge 0 ] || fail 'the log is shorter than it was'
[ "$count" -le {limit} ] || count={limit}
printf 'log %s\\n' "$count"
[ "$count" -eq 0 ] || tail -c +{offset + 1} log | head -c "$count"
"""


def cancel(base: str, run: str, launch: str) -> str:
    """Script: end the job, whether its number is known or not, and let nobody submit the run again."""
    name = job_name(run)
    return f"""\
umask 077
{scheduler(launch)}
mkdir -p {base}/runs/{run} && cd {base}/runs/{run} && : >cancelled || fail 'the remote folder cannot be written'
if [ -s exit ]; then say state ENDED; return; fi
id=$(head -n 1 job 2>/dev/null)
[ -n "$id" ] || id=$(head -n 1 claim/job 2>/dev/null)
[ -n "$id" ] || id=$(number {name})
[ -n "$id" ] || {{ say state NONE; return; }}
say job "$id"
say state "$(state {name} "$id")"
stop {name} "$id" 2>refused || say refused "$(head -c 500 refused)"
"""
