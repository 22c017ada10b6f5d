"""The table of error codes: what each means, its exit code, and what to do (``neurocompile explain CODE``).

Ranges: NC1xx how a file is written, NC2xx what it says, NC3xx what a target cannot express, NC4xx does not fit, NC5xx SDK or hardware
missing, NC6xx verification, NC7xx files and folders of a run, NC9xx internal.
"""

from __future__ import annotations

from dataclasses import dataclass

from neurocompile.ir.errors import ExitCode


@dataclass(frozen=True, slots=True)
class CodeInfo:
    """Title (one line), explanation (what it means and what to do) and exit code of an error code."""

    title: str
    explanation: str
    exit_code: ExitCode = ExitCode.BAD_INPUT


CODES: dict[str, CodeInfo] = {
    # --- NC1xx: how a file is written -------------------------------------------------------------------------------------
    # --- NC2xx: what a description says -----------------------------------------------------------------------------------
    "NC201": CodeInfo(
        "parameter out of range",
        "A number lies outside the range in which the model is defined: a time constant must be positive, a probability lies in [0, 1], "
        "a refractory time is not negative. The message names the parameter, its value and the range.",
    ),
    "NC202": CodeInfo(
        "wrong shape or length",
        "A per-neuron parameter has one value per neuron, so its length must equal the population's size; pre, post and weight of an "
        "edge list have equal lengths.",
    ),
    "NC203": CodeInfo(
        "not a finite number",
        "A weight, delay or parameter is NaN or infinite. The message names the first index.",
    ),
    "NC204": CodeInfo(
        "index out of range",
        "A connection names a neuron that its population does not have: indices run from 0 to size-1.",
    ),
    "NC205": CodeInfo("empty population", "A population needs at least one neuron."),
    "NC206": CodeInfo(
        "duplicate name",
        "Two populations, projections or learning rules have the same name; outputs and weight files are keyed by name.",
    ),
    "NC207": CodeInfo("unknown name", "A projection, task or rule refers to something that the description does not define."),
    "NC208": CodeInfo(
        "name not allowed",
        "Names start with a letter or underscore and hold letters, digits, underscores, dots, spaces and '->' only, "
        "at most 100 characters: they become parts of "
        "file names, keys and generated programs.",
    ),
    "NC209": CodeInfo(
        "delay out of range",
        "Delays are whole steps from 1 to 255; plastic projections have a delay of one step, as in NEST's e-prop models.",
    ),
    "NC210": CodeInfo(
        "learning rule does not apply here",
        "The rule cannot be used on this projection: e-prop needs a lif, alif or leaky_readout target, the readout of the task, "
        "and feedback that matches the populations.",
    ),
    "NC211": CodeInfo(
        "projection into the wrong model",
        "A spike source receives no input; a leaky readout sends no spikes.",
    ),
    # --- NC3xx: what a target cannot express ------------------------------------------------------------------------------
    # --- NC4xx: does not fit ----------------------------------------------------------------------------------------------
    # --- NC5xx: SDK or hardware missing -----------------------------------------------------------------------------------
    "NC501": CodeInfo(
        "SDK missing",
        "The command needs an SDK that is not installed. Install the extra that the message names, for example "
        "`pip install 'neurocompile[loihi2]'`.",
        ExitCode.SDK_MISSING,
    ),
    # --- NC6xx: verification ----------------------------------------------------------------------------------------------
    # --- NC7xx: files and folders of a run --------------------------------------------------------------------------------
    # --- NC9xx: internal --------------------------------------------------------------------------------------------------
    "NC901": CodeInfo(
        "internal error",
        "A defect of neurocompile, not of the input. Nothing half-written is left behind. Please report it with the command and the "
        "text printed by `-v`.",
        ExitCode.INTERNAL,
    ),
}
