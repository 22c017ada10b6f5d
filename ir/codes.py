"""The table of error codes: what each means, its exit code, and what to do (``neurocompile explain CODE``).

Ranges: NC1xx how a file is written, NC2xx what it says, NC3xx what a target cannot express, NC4xx does not fit, NC5xx SDK, hardware
or host missing, NC6xx verification, NC7xx files and folders of a run, NC9xx internal.
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
    "NC001": CodeInfo("usage", "The command line is not understood; `neurocompile COMMAND --help` shows its options.", ExitCode.USAGE),
    # --- NC1xx: how a file is written -------------------------------------------------------------------------------------
    "NC101": CodeInfo(
        "not valid YAML", "The text breaks YAML's syntax at the marked place: indentation (spaces only), brackets, quotes, colons."
    ),
    "NC102": CodeInfo("text not readable", "The file is not UTF-8, or holds control characters. Save it as UTF-8 text."),
    "NC103": CodeInfo(
        "description too big",
        "A description is short: at most 16 MiB of text, 40 levels deep, 500,000 values after expanding aliases. "
        "Arrays belong into .npz files, referred to by `file:`.",
    ),
    "NC104": CodeInfo("no description", "The file is empty or is not a mapping. docs/yaml.md shows its shape."),
    "NC105": CodeInfo("file does not exist", "Paths in a description are relative to its folder."),
    "NC106": CodeInfo(
        "not a readable .npz file",
        "The file is no .npz archive, is damaged, or holds Python objects (pickle), which are never loaded because they can run code. "
        "Save plain arrays with np.savez.",
    ),
    "NC107": CodeInfo(
        "array missing", "The file lacks an array or column that is needed, or has one without meaning. The message lists what it has."
    ),
    "NC108": CodeInfo(
        "unknown key", "The key has no meaning in this section: most often a typing error. `neurocompile schema` lists all keys."
    ),
    "NC109": CodeInfo("key missing", "The section needs a key that is not there."),
    "NC110": CodeInfo(
        "wrong type of value", "A number, text, list or mapping stands where another kind is needed. `yes`, `no`, `on`, `off` are texts."
    ),
    "NC111": CodeInfo("unknown choice", "The word is none of those that may stand here: a model, rule, loss, connect rule or the like."),
    "NC112": CodeInfo("key stands twice", "A key may stand once in a section; YAML would silently keep one of the two."),
    "NC113": CodeInfo(
        "tag refused", "YAML tags such as !!python/object are never read: a description holds plain values and cannot run code."
    ),
    "NC114": CodeInfo(
        "not a number", "A number is expected, written as in YAML 1.2: 10, 0.5, 1e-5, .inf; with a unit where it is a quantity: 20 ms."
    ),
    "NC115": CodeInfo(
        "unit missing",
        "Times and frequencies carry a unit (20 ms, 10 Hz), because a bare number means ms to some and s to others; only "
        "0 and .inf do not.",
    ),
    "NC116": CodeInfo(
        "wrong unit", "The unit is unknown, or belongs to another dimension than the key (a frequency where a time is needed)."
    ),
    "NC117": CodeInfo(
        "membrane quantities with and without unit",
        "Potentials and weights are plain numbers in a unit of your choice throughout a file, or carry V, mV, uV throughout (then they "
        "become volts, `file:` weights need `unit:`, and defaults other than 0 must be stated).",
    ),
    "NC118": CodeInfo(
        "not a whole number of steps", "Delays and durations are whole multiples of dt (within 1e-9): use another time or another dt."
    ),
    "NC119": CodeInfo(
        "bad line in a CSV file",
        "Rows are pre,post[,weight[,delay]]: whole numbers from 0, a weight, a delay in steps; a header is optional.",
    ),
    "NC121": CodeInfo("unknown file suffix", "The suffix says how a file is read; the message lists those that are known."),
    "NC122": CodeInfo(
        "dt given twice", "The time step of a YAML description stands in it; --dt is for formats that have none, such as .nir."
    ),
    "NC124": CodeInfo("file cannot be read", "The system refuses to read the file: a folder, or no permission."),
    "NC125": CodeInfo("more errors", "Only the first hundred errors are listed."),
    "NC160": CodeInfo(
        "option not understood",
        "An option such as --input, --signal, --set or --record has another form than NAME=FILE, KEY=VALUE or KIND:NAME, or has no effect "
        "together with the others. The message shows the option.",
    ),
    "NC161": CodeInfo(
        "stored network damaged",
        "network.json or network.npz of a build folder cannot be read, or were written by another version. Build it again.",
    ),
    "NC170": CodeInfo(
        "not a file of routing tables",
        "`minimise` reads the table format of the HPSR 2016 benchmark (docs/cli.md), plain or xz-compressed. The file cannot be read, ends "
        "inside a table, names a chip twice, or has an entry that can match nothing. The message shows which table, byte and entry.",
    ),
    "NC162": CodeInfo("unknown error code", "`neurocompile explain` without a code lists them all."),
    "NC150": CodeInfo(
        "machine file cannot be read",
        "The file is missing, is not UTF-8 YAML, is too long, or holds YAML aliases (not allowed, since a few can stand for gigabytes).",
    ),
    "NC151": CodeInfo(
        "unknown machine", "`neurocompile targets` lists the machines; a path ends in .yaml. docs/machines.md shows the format."
    ),
    "NC152": CodeInfo(
        "unknown or missing key in a machine file", "docs/machines.md lists the keys; hw_configs/generic.yaml explains each."
    ),
    "NC153": CodeInfo("wrong value in a machine file", "A value has another type or range than the key allows. The message shows which."),
    "NC154": CodeInfo(
        "number without unit, source or confidence",
        "Every number of a machine file says its unit, where it is known from, and how sure that is: measured, "
        "published, inferred or guess.",
    ),
    "NC155": CodeInfo(
        "impossible topology",
        "Chips outside the machine, boards on top of each other, more reserved cores than cores, an input chip that does "
        "not exist, no chip left.",
    ),
    "NC156": CodeInfo(
        "machine does not state a quantity",
        "The compiler needs a number that the machine file does not have. Add it, with unit, source and confidence (docs/machines.md).",
    ),
    "NC157": CodeInfo(
        "machine quantity cannot be overridden",
        "`--set machine.KEY=NUMBER` replaces a number that the machine file states; chips and cores are changed in a copy of the file.",
    ),
    "NC130": CodeInfo(
        "netx file cannot be read",
        "The file is not HDF5, is damaged, or has no group `layer` with layers 0 .. n-1. lava-dl writes netx files with export_hdf5.",
    ),
    "NC131": CodeInfo(
        "netx layer not supported",
        "The importer reads layers of type input, dense, dense_rec, conv and flatten, with neurons of type CUBA or LOIHI and spikes "
        "without payload (docs/netx.md). The message has the layer's number and type.",
    ),
    "NC132": CodeInfo(
        "netx value missing or out of range",
        "A netx file holds the integers of Loihi's registers: whole weights and biases, decays of 0 .. 4096, thresholds of 0 .. 131071. "
        "The message names the layer, the value and its range.",
    ),
    "NC140": CodeInfo(
        "NIR file cannot be read",
        "The file is not HDF5, or the `nir` package refuses its content; the message has the reason. Export it again with a current "
        "version of nir; nested graphs must name only nodes that they hold.",
    ),
    "NC141": CodeInfo(
        "NIR node not supported",
        "The importer reads Input, Output, Linear, Affine, Scale, Conv1d, Conv2d, SumPool2d, AvgPool2d, Flatten, Delay, Threshold, IF, "
        "LIF, CubaLIF, LI, CubaLI and nested graphs of these. Replace the node that the message names before exporting.",
    ),
    "NC142": CodeInfo(
        "time step of a NIR network",
        "NIR describes dynamics in continuous time, so the step is yours to give (`--dt`), and forward Euler needs it to be no longer than "
        "the shortest time constant. Networks trained with a step should be read with that step (the NIR paper's have 1e-4 s).",
    ),
    "NC143": CodeInfo(
        "shapes do not fit (NIR, netx)",
        "A node's or layer's parameters do not fit the tensor that it gets, or each other. Shapes follow PyTorch, without a batch "
        "dimension.",
    ),
    "NC144": CodeInfo(
        "NIR graph is not well-formed",
        "An edge names a missing node or occurs twice, a node has no incoming edge, or linear nodes form a loop without a neuron.",
    ),
    "NC146": CodeInfo(
        "layer too large (NIR, netx)",
        "Convolutions and dense layers become lists of synapses; this one would have more than 2^31, or more neurons than can be counted.",
    ),
    "NC147": CodeInfo(
        "graded values between NIR nodes",
        "LI and CubaLI send their membrane, not spikes; they can only feed an Output node. Put a spiking node in between.",
    ),
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
    "NC230": CodeInfo(
        "too many synapses for this machine's memory",
        "Realising the connectivity, or what is then done with it, would need more memory than is available. Lower the probability or "
        "degree, or take the synapses in parts (`realise_targets`, `iter_chunks` in the Python API).",
        ExitCode.DOES_NOT_FIT,
    ),
    "NC231": CodeInfo(
        "no such part of a projection",
        "A part is a range of target neurons 0 <= start <= stop <= size, or chunks of at least one synapse.",
    ),
    "NC235": CodeInfo(
        "connections or saved state of another network",
        "The reference engine was given synapses that lack a projection, or a saved state whose arrays do not fit. Use the connections "
        "and the state of the same description.",
    ),
    "NC236": CodeInfo(
        "weight or kappa outside the rule's bounds",
        "A plastic weight lies outside weight_bounds of its learning rule, or a learnt kappa outside the bounds of kappa_learning (or not "
        "the same for all synapses of a neuron that owns it). Widen the bounds or change the values.",
    ),
    "NC237": CodeInfo(
        "two spikes of a neuron in one step",
        "A neuron spikes at most once in a step. Merge the events of a step, or choose a smaller dt.",
    ),
    "NC238": CodeInfo(
        "number of steps out of range",
        "A run has 0 or more steps, and the reference engine counts fewer than 2^31 - 2^20 steps in all.",
    ),
    "NC239": CodeInfo(
        "cannot be recorded",
        "The recorder was asked for something that the population or projection does not have: traces, surrogates and learning signals "
        "exist where e-prop learns.",
    ),
    "NC251": CodeInfo(
        "the engine cannot run this that way",
        "The anchored algorithm needs rules that are linear between two spikes of a source (no Adam, no step-by-step clipping, no trace "
        "cutoff, no learnt kappa, no STDP) and traces that do not decay at once; single precision and threads belong to it. E-prop in its "
        "original formulation (update: interval_2020) has an algorithm of its own.",
    ),
    "NC240": CodeInfo("unknown data set", "`task.data` names a data set that does not exist. Known: digits, nmnist (docs/tasks.md)."),
    "NC241": CodeInfo("unknown option of a data set", "docs/tasks.md lists the options of each data set."),
    "NC242": CodeInfo(
        "option of a data set or a training out of range",
        "A setting of the data, the learning window or the training has a value that it cannot have. The message names the range.",
    ),
    "NC243": CodeInfo(
        "no data set",
        "`train` and `evaluate` need `task.data`. Networks without one run in `simulate`, with spikes and signals from files.",
    ),
    "NC244": CodeInfo("unclear input", "The data drive one spike source. With several of them, `task.input` says which."),
    "NC245": CodeInfo(
        "populations do not fit the data",
        "The spike source needs one neuron per input of the data, the readout one per class.",
    ),
    "NC246": CodeInfo(
        "data not found",
        "The folder or a file of the data set cannot be read. Point `path` in the description, or --data, to the data set's own layout.",
    ),
    "NC247": CodeInfo(
        "damaged recording",
        "A file of events is empty, ends inside an event, or holds what no recording can. The message names the file and the byte offset.",
    ),
    "NC248": CodeInfo("nothing to train", "No projection has a learning rule, so no weight would ever change."),
    "NC249": CodeInfo("no weights in a file", "A weight file is an .npz with arrays 'weight:PROJECTION', as `train` writes them."),
    # --- NC3xx: what a target cannot express ------------------------------------------------------------------------------
    "NC301": CodeInfo("unknown target", "`neurocompile targets` lists the targets, those of installed plugins included."),
    "NC302": CodeInfo(
        "machine does not belong to the target",
        "Each target builds for machines of certain families; `neurocompile targets` lists them. A target without cores (nest) takes none.",
    ),
    "NC320": CodeInfo(
        "SpiNNaker: time step or option not accepted",
        "sPyNNaker's time step is a whole number of microseconds, at least 100. Options (`--set`) of the target are "
        "eprop (r_stdp or static), "
        "rate and source_rate (Hz).",
    ),
    "NC321": CodeInfo(
        "SpiNNaker: neuron model has no sPyNNaker form",
        "The population mixes neurons with and without synaptic current, resets to a value at or above its threshold, or "
        "is of a model that "
        "sPyNNaker does not have.",
    ),
    "NC322": CodeInfo(
        "SpiNNaker: reset by subtraction",
        "sPyNNaker's neurons reset to a value. With --allow-approximation they reset to v_leak, and what the membrane exceeds "
        "the threshold by is lost.",
    ),
    "NC323": CodeInfo(
        "SpiNNaker: no lower bound of the membrane", "sPyNNaker's LIF has no v_min. With --allow-approximation the bound is left out."
    ),
    "NC324": CodeInfo(
        "SpiNNaker: no adaptive threshold",
        "sPyNNaker has no model whose threshold rises. With --allow-approximation an adaptation current of the same "
        "steady effect stands in.",
    ),
    "NC325": CodeInfo(
        "SpiNNaker: no e-prop",
        "Released sPyNNaker has no e-prop synapse. With --allow-approximation, synapses into spiking populations learn "
        "by reward-modulated STDP "
        "(which is not e-prop), those into readouts are static; `--set eprop=static` freezes all.",
    ),
    "NC326": CodeInfo(
        "SpiNNaker: plastic synapses are not negative",
        "Plastic weights are unsigned and cannot change their sign. With --allow-approximation negative plastic synapses are static.",
    ),
    "NC327": CodeInfo(
        "SpiNNaker: one learning rule a population",
        "All plastic projections into a population must obey one rule with one pair of weight bounds, and rewards must come from spikes.",
    ),
    "NC328": CodeInfo(
        "SpiNNaker: number outside fixed point",
        "Neuron parameters are s16.15 numbers (range 65536, resolution 3e-5), weights have 16 bits. The message names "
        "the number. Very long "
        "time constants are shortened with --allow-approximation.",
    ),
    "NC329": CodeInfo(
        "SpiNNaker 2: mapping only",
        "sPyNNaker brings binaries for SpiNNaker 1 only. With --allow-approximation the program is written and maps on a "
        "virtual SpiNNaker 2 board.",
    ),
    "NC340": CodeInfo(
        "SpiNNaker: spikes are paired without the delay",
        "A pre spike is paired with post spikes when it arrives; sPyNNaker pairs it when it is sent. With --allow-approximation the "
        "amplitudes are corrected for the mean delay; pairs whose lag lies within the delay count differently.",
    ),
    "NC341": CodeInfo(
        "SpiNNaker: unsigned eligibility",
        "The eligibility of reward-modulated STDP is an unsigned number on SpiNNaker. With --allow-approximation post-before-pre pairs "
        "only take away what pre-before-post pairs brought.",
    ),
    "NC342": CodeInfo(
        "NEST: delay of a plastic synapse",
        "NEST's e-prop synapses have a delay of exactly one step; the reference engine lets a spike travel longer before it reaches a "
        "plastic synapse.",
    ),
    "NC344": CodeInfo(
        "learning that only the reference engine has",
        "Update intervals (`update: interval_2020`), learning from reward (`loss: actor_critic`), feedback through the chain, adaptive "
        "feedback, weight decay, a learnt kappa and rewiring run in the reference engine (`simulate`, `train`), not on this target. The "
        "message names what comes nearest; a network that has learnt can be built with its weights.",
    ),
    "NC345": CodeInfo(
        "no integers to simulate with",
        "`simulate --numerics TARGET` computes here, bit for bit, what TARGET's program computes. Of our targets loihi2 can; "
        "without --numerics the reference engine runs in float64.",
    ),
    "NC310": CodeInfo(
        "neuron parameter outside Loihi's registers",
        "A threshold lies at or below rest, or a bias exceeds a 13-bit mantissa with a 3-bit exponent. The message has the numbers.",
    ),
    "NC311": CodeInfo(
        "delay too long for Loihi", "Loihi delays spikes by at most 63 steps here. Add a relay population or use a larger dt."
    ),
    "NC312": CodeInfo(
        "learning rules that Loihi's target does not have",
        "A population learns by one rule: its neurons send one set of third factors, and its weights have one scale.",
    ),
    "NC313": CodeInfo(
        "optimizer replaced on Loihi", "Weights change by plain gradient descent; Adam's moments have no place in a synapse."
    ),
    "NC314": CodeInfo("loss replaced on Loihi", "The readout sends y - y*; a softmax over the readout is not expressed."),
    "NC315": CodeInfo(
        "symmetric feedback on Loihi",
        "Feedback weights cannot follow the readout's weights; they stay at the initial ones. `feedback: {random: ...}` "
        "needs no approximation.",
    ),
    "NC316": CodeInfo(
        "eligibility trace replaced on Loihi",
        "One 8-bit tag per synapse holds the eligibility: its filter is 1 - n/128, without cutoff or a second filter. "
        "The second state of adaptation is approximated, or held in the place of the weights' low bits (form adaptive). "
        "Decays of neurons have 12 bits, that of a reward too.",
    ),
    "NC317": CodeInfo("update interval replaced on Loihi", "Weights change in every step; gradients are not collected over an interval."),
    "NC318": CodeInfo(
        "weight bounds replaced on Loihi",
        "Plastic weights saturate at the ends of 8 bits; narrower bounds and mixed sign constraints are not expressed. STDP's scale "
        "is chosen so that its larger bound is such an end; the other can only be 0, or as large.",
    ),
    "NC319": CodeInfo(
        "learning rate below Loihi's resolution",
        "At this learning rate an error of the reference size gives a learning signal that rounds to 0. Raise the "
        "learning rate, or say how "
        "large errors are with `--set error_scale=...`. Of STDP: an amplitude is far from what a literal and a trace of 7 bits make.",
    ),
    "NC330": CodeInfo(
        "NEST: adaptation with a refractory time",
        "NEST 3.10's eprop_iaf_psc_delta_adapt loses every adaptation increment of a refractory neuron, so that its threshold never rises. "
        "With --allow-approximation the population has no refractory time; reset by subtraction (eprop_iaf_adapt) is exact.",
    ),
    "NC331": CodeInfo(
        "NEST: no synaptic current",
        "NEST's e-prop models take delta input, and in its iaf_psc_exp a spike's current reaches the membrane one step "
        "later than in a cuba_lif. "
        "Use lif, alif, or a leaky_readout without tau_syn.",
    ),
    "NC332": CodeInfo(
        "NEST: limits of the membrane in another order",
        "NEST requires v_reset and v_min to lie below v_threshold and, with reset `to_value`, v_min at or below v_reset.",
    ),
    "NC333": CodeInfo(
        "NEST: e-prop without an equal in NEST",
        "NEST has no cross-entropy loss, no feedback that follows the readout's weights as they learn, and no spike in its first step. "
        "With --allow-approximation the loss is the mean squared error, symmetric feedback stays at the initial readout weights, and the "
        "clock of Adam and of update intervals is one step ahead where a bias makes a neuron spike in step 0.",
    ),
    "NC334": CodeInfo(
        "NEST: STDP",
        "NEST's stdp_synapse pairs spikes after a dendritic delay and its e-prop neurons keep no STDP trace, so that no "
        "network of ours would "
        "learn the same. Target spinnaker has both rules.",
    ),
    "NC335": CodeInfo(
        "NEST: rules of one population disagree",
        "Surrogate, filters, regularisation, cutoff and feedback belong to the neuron in NEST: all e-prop rules into a "
        "population must agree "
        "in them. Optimizers and bounds may differ.",
    ),
    "NC336": CodeInfo("NEST: weight outside its bounds", "NEST refuses plastic weights that start outside weight_bounds."),
    "NC337": CodeInfo("NEST: time step", "NEST counts time in microseconds: dt must be a whole number of them."),
    "NC338": CodeInfo(
        "NEST: too many synapses between two neurons",
        "Repeated plastic synapses of a pair need copies of NEST's synapse model: one for each repetition (with "
        "sign_constraint, of each sign), at most 400 in all rules together.",
    ),
    "NC339": CodeInfo("NEST: unknown option", "The target takes no --set options."),
    # --- NC4xx: does not fit ----------------------------------------------------------------------------------------------
    "NC401": CodeInfo(
        "one neuron exceeds a core",
        "A neuron with all its synapses needs more than one core has, so no partition exists. Lower its fan-in or "
        "fan-out, or take a machine with larger cores. A build names the projection that takes most and the degree that fits.",
        ExitCode.DOES_NOT_FIT,
    ),
    "NC402": CodeInfo(
        "not enough cores",
        "The network needs more cores than the machine has. The message names the smallest machine of the family that fits, "
        "what enforces so many, and the in-degree with which it would fit.",
        ExitCode.DOES_NOT_FIT,
    ),
    "NC403": CodeInfo(
        "a chip is too small",
        "A part of a population needs several cores on one chip, or more of a chip's memory, than any chip has.",
        ExitCode.DOES_NOT_FIT,
    ),
    "NC404": CodeInfo(
        "routing table too small",
        "After minimisation a chip still needs more routing entries than its router has, even with one tree per source core.",
        ExitCode.DOES_NOT_FIT,
    ),
    "NC405": CodeInfo(
        "no way between two chips",
        "Dead chips and links cut the machine in pieces, and a connection of the network crosses the cut.",
        ExitCode.DOES_NOT_FIT,
    ),
    "NC406": CodeInfo(
        "keys exhausted",
        "The neurons that send packets need more routing keys than the machine's packets can hold.",
        ExitCode.DOES_NOT_FIT,
    ),
    "NC407": CodeInfo(
        "wished chip does not exist",
        "Under `mapping: chips` neurons are to lie on a chip that the machine does not have, or that is dead. Chips count from (0, 0).",
    ),
    "NC410": CodeInfo(
        "simulation does not fit into memory",
        "Synapses, neurons, recordings and outputs would need more memory than is available (the machine's free memory, the limit of the "
        "control group or of `ulimit -v`), or more steps than the engine counts. The message has the items, largest first. Single "
        "precision halves the state of plastic synapses; without --save nothing that grows with the steps is held.",
        ExitCode.DOES_NOT_FIT,
    ),
    # --- NC5xx: SDK or hardware missing -----------------------------------------------------------------------------------
    "NC501": CodeInfo(
        "SDK missing",
        "The command needs an SDK that is not installed. Install the extra that the message names, for example "
        "`pip install 'neurocompile[loihi2]'`.",
        ExitCode.SDK_MISSING,
    ),
    "NC510": CodeInfo(
        "no cluster",
        "`--scheduler` names a Dask scheduler that does not answer, or that has no worker. Start it with `dask scheduler` and workers with "
        "`dask worker ADDRESS`; without `--scheduler` everything runs on this machine.",
        ExitCode.SDK_MISSING,
    ),
    "NC511": CodeInfo(
        "cluster of other versions",
        "A worker of the cluster has another version of neurocompile or of a library that the bytes of a build depend on, or another kind "
        "of processor. Install the same versions everywhere.",
        ExitCode.SDK_MISSING,
    ),
    "NC512": CodeInfo(
        "cluster failed",
        "A piece of the work killed each worker that it ran on, a worker had too little memory, or the scheduler or all workers were lost. "
        "Nothing was written. Workers need about 200 MB beside Python for each thread.",
        ExitCode.SDK_MISSING,
    ),
    # --- NC6xx: verification ----------------------------------------------------------------------------------------------
    "NC520": CodeInfo(
        "place cannot be reached",
        "There is no connection to the host or service: its name, the network, a VPN, or it is down. Try `ssh HOST` by hand, or open the "
        "service's address in a browser.",
        ExitCode.SDK_MISSING,
    ),
    "NC521": CodeInfo(
        "login refused",
        "The host accepts none of the keys that ssh offers without a question. `ssh HOST` must log in without asking: a key that the host "
        "knows, its passphrase in your ssh agent (`ssh-add`). Passwords are never asked for.",
        ExitCode.SDK_MISSING,
    ),
    "NC522": CodeInfo(
        "host key not known",
        "ssh does not know the host's key, or knows another one. Keys are never accepted here: log in once by hand, and compare the "
        "fingerprint with the one that the host's operators publish.",
        ExitCode.SDK_MISSING,
    ),
    "NC523": CodeInfo(
        "connection lost",
        "The host could not be reached again for as long as --patience says. A submitted job goes on; `neurocompile deploy --resume -o "
        "FOLDER` follows it again, from the byte of the log that was seen last.",
        ExitCode.SDK_MISSING,
    ),
    "NC524": CodeInfo(
        "host cannot do it",
        "A folder on the host cannot be written (rights, quota, full disk), or a program that deploying needs is missing there: a POSIX "
        "shell, GNU coreutils, slurm's commands, rsync or sftp. The message has the host's own words. Nothing half-copied is used.",
        ExitCode.SDK_MISSING,
    ),
    "NC525": CodeInfo(
        "job refused",
        "sbatch or scancel ended with an error, or the job service or the spalloc server does not take the job, or cannot end it; the "
        "message is theirs. `sinfo` on a host with slurm lists partitions and boards (nodes); a collab needs a quota for the platform.",
        ExitCode.SDK_MISSING,
    ),
    "NC526": CodeInfo(
        "job did not end well",
        "The program ended with an error, or the job was cancelled, ran out of time or memory, or lost its node. log.txt in the folder of "
        "the deployment has all that it printed.",
        ExitCode.SDK_MISSING,
    ),
    "NC527": CodeInfo(
        "copy differs",
        "What arrived has another checksum than what was sent, several times over. Nothing of it is used. Try the other way (--copy).",
        ExitCode.SDK_MISSING,
    ),
    "NC528": CodeInfo(
        "program refused its input",
        "program/run.py on the host ended with exit code 2 (options) or 3 (input): the arguments behind `--` are its own. A build of an "
        "earlier version may not know --hw: build again.",
    ),
    "NC529": CodeInfo(
        "token missing or refused",
        "The service needs a token or password that is in the environment or the keyring, and takes none of another user or age. Tokens of "
        "EBRAINS live for hours: get a new one, then go on with `--resume`. Nothing is lost.",
        ExitCode.SDK_MISSING,
    ),
    "NC530": CodeInfo(
        "service answers otherwise",
        "The service gives answers that its interface does not have: another version of it, another kind of server at that address, or "
        "something on the way (a proxy, a login page). The message has what came. `--resume` tries again.",
        ExitCode.SDK_MISSING,
    ),
    "NC531": CodeInfo(
        "build too large for the service",
        "The build travels inside the job's script, which the service sends along with each of its answers. Run it on boards of your own "
        "site (`--to spalloc`), or in EBRAINS' Jupyter service.",
        ExitCode.DOES_NOT_FIT,
    ),
    "NC532": CodeInfo(
        "build cannot run on hardware yet",
        "E-prop on SpiNNaker runs in binaries that you build with SpiNNaker's tools (program/extension/README.md of the build), or the "
        "build is for a machine that can only be mapped for (SpiNNaker 2). Nothing was sent. "
        "`validate` and `run.py --virtual` work as they are.",
        ExitCode.SDK_MISSING,
    ),
    "NC650": CodeInfo(
        "validation found a difference",
        "The emitted program, run in the target's public emulator, does not do what the twin or the reference engine does. The message has "
        "the compared numbers. Please report it with the description.",
        ExitCode.MISMATCH,
    ),
    "NC601": CodeInfo(
        "mapping: neuron without a legal place",
        "The verifier found a neuron without a part, or a part on a chip or core that does not exist, is reserved, or is "
        "taken twice. A defect "
        "of the mapper (or of a stored mapping that was edited): please report it.",
        ExitCode.MISMATCH,
    ),
    "NC602": CodeInfo(
        "mapping: a core is over a limit",
        "Recounting what a core or chip holds gave more than the machine's limit. A defect of the mapper: please report it.",
        ExitCode.MISMATCH,
    ),
    "NC603": CodeInfo(
        "mapping: packets miss a target",
        "Walking a neuron's packets through the routing tables did not reach a core that holds one of its targets.",
        ExitCode.MISMATCH,
    ),
    "NC604": CodeInfo(
        "mapping: packets reach a wrong core",
        "Walking a neuron's packets through the routing tables reached a core where the mapping promises that they do not go.",
        ExitCode.MISMATCH,
    ),
    "NC605": CodeInfo(
        "mapping: packets lost or in a loop",
        "A packet visits a chip twice, leaves the machine over a link that does not exist, or is dropped.",
        ExitCode.MISMATCH,
    ),
    "NC606": CodeInfo(
        "mapping: keys not unique", "Two neurons that send packets have the same key, or a neuron that sends has none.", ExitCode.MISMATCH
    ),
    "NC607": CodeInfo("mapping: routing table too long", "A chip's table has more entries than its router.", ExitCode.MISMATCH),
    "NC608": CodeInfo(
        "mapping: stored arrays damaged",
        "mapping.npz lacks an array or its arrays do not belong together; build again.",
        ExitCode.MISMATCH,
    ),
    "NC609": CodeInfo(
        "routing table not equivalent",
        "Comparing a minimised table with the original one found a key that is routed otherwise. Nothing is written. A defect of the "
        "minimiser: please report it.",
        ExitCode.MISMATCH,
    ),
    "NC620": CodeInfo(
        "sPyNNaker program failed",
        "`program/run.py --virtual` ended with an error or did not end. Run it by hand to see all it prints.",
        ExitCode.MISMATCH,
    ),
    "NC621": CodeInfo("sPyNNaker program without summary", "`program/run.py` did not print its JSON summary on stdout.", ExitCode.MISMATCH),
    "NC613": CodeInfo(
        "emitted Loihi program failed", "The program ended with an error or did not end; its last messages are shown.", ExitCode.MISMATCH
    ),
    "NC614": CodeInfo("not a Loihi program of this version", "network.json is missing or of another version. Build it again."),
    "NC630": CodeInfo(
        "NEST program failed",
        "`program/run.py` ended with an error; the message shows its last lines. Run it by hand as `program/README.md` says.",
        ExitCode.MISMATCH,
    ),
    "NC631": CodeInfo("NEST program without summary", "`program/run.py` did not print its JSON summary on stdout.", ExitCode.MISMATCH),
    "NC632": CodeInfo("NEST results incomplete", "The results of `program/run.py` lack an array of the network.", ExitCode.MISMATCH),
    # --- NC7xx: files and folders of a run --------------------------------------------------------------------------------
    "NC701": CodeInfo(
        "cannot be written",
        "The file or folder cannot be created: no permission, a read-only or full disk, or a file where a folder is needed. Nothing was "
        "changed: outputs appear whole or not at all.",
    ),
    "NC702": CodeInfo(
        "output exists",
        "The output folder exists and is not a build of neurocompile; only an older build or an empty folder is replaced.",
    ),
    "NC703": CodeInfo("not a build folder", "The command needs a folder made by `neurocompile build`, with manifest.json and report.json."),
    "NC704": CodeInfo(
        "build folder changed or option refused",
        "A file of the build is missing or differs from its digest in manifest.json, so results could not be traced to their inputs; or an "
        "option contradicts what the build has fixed. Build again from the description.",
    ),
    "NC710": CodeInfo("no checkpoint", "`--resume` found no checkpoint: the file of `simulate`, checkpoint.npz in the folder of `train`."),
    "NC711": CodeInfo(
        "checkpoint of another run",
        "A checkpoint continues only the run that it was written by: same description, seed, weights, data or inputs, and options. Only "
        "the number of epochs or steps may grow.",
    ),
    "NC712": CodeInfo(
        "damaged checkpoint", "The checkpoint cannot be read, lacks a part, or another version wrote it. Begin anew in another place."
    ),
    "NC713": CodeInfo(
        "holds a run already",
        "A new run would overwrite the results or the checkpoint at this place. Go on with --resume, or choose another place.",
    ),
    "NC720": CodeInfo("no deployment", "`--resume` and `--cancel` need the folder (-o) of a deployment, in which deploy.json is."),
    "NC721": CodeInfo(
        "state of a deployment damaged", "deploy.json cannot be read, or another version wrote it. The job, if there is one, goes on."
    ),
    "NC722": CodeInfo(
        "deployment is being followed",
        "Another process follows the job of this folder. Let it, or end it first (Ctrl-C leaves the job alone).",
    ),
    "NC730": CodeInfo(
        "cannot be cross-checked",
        "SANA-FE models meshes whose packets carry their target core, and reads its networks as text: not SpiNNaker, no machine with "
        "missing chips, no millions of synapses.",
    ),
    "NC731": CodeInfo(
        "no interpreter with the tool",
        "`--crosscheck` runs an external tool in the interpreter that `--python` names; it does not exist or lacks the tool. SANA-FE is "
        "under GPL 3 and no part of neurocompile.",
        ExitCode.SDK_MISSING,
    ),
    "NC732": CodeInfo("external tool failed", "The tool of `--crosscheck` ended with an error or without its counts.", ExitCode.MISMATCH),
    "NC733": CodeInfo(
        "counts differ",
        "The tool of `--crosscheck` counts spikes, events, packets or energy otherwise than neurocompile from the same mapping: a defect "
        "of one of them. Please report it with the build folder.",
        ExitCode.MISMATCH,
    ),
    # --- NC9xx: internal --------------------------------------------------------------------------------------------------
    "NC901": CodeInfo(
        "internal error",
        "A defect of neurocompile, not of the input. Nothing half-written is left behind. Please report it with the command and the "
        "text printed by `-v`.",
        ExitCode.INTERNAL,
    ),
}
