/* sPyNNaker's interface of a neuron implementation, for populations that learn by e-prop and the readouts that teach them.
 *
 * Region of the neurons' parameters: eprop_cells_t, the number of readouts that are heard, then for each neuron eprop_cell_t (with
 * EPROP_FLAG_UNIFORM: for the first one only) and a feedback weight for each readout (int32). */

#ifndef NEURON_IMPL_EPROP_H
#define NEURON_IMPL_EPROP_H

#include <neuron/implementations/neuron_impl.h>
#include <neuron/send_spike.h>
#include <neuron/spike_processing.h>
#include <debug.h>
#include <spin1_api.h>
#include <spin1_api_params.h>

#include "eprop_core.h"
#include "eprop_exp.h"
#include "eprop_held.h"

#define V_RECORDING_INDEX 0
#define SPIKE_RECORDING_BITFIELD 0
#define N_RECORDED_VARS 1
#define N_BITFIELD_VARS 1

#include <neuron/current_sources/current_source.h> /* none of its sources: their code would fill ITCM */
#include <neuron/neuron_recording.h> /* reads the numbers above */

extern uint32_t time; /* the tick of the machine; sPyNNaker's c_main.c */

eprop_cells_t eprop_cells;
static uint32_t eprop_n_heard; /* readouts */
static eprop_cell_t *eprop_cell;
static eprop_state_of_neuron_t *eprop_state;
static int32_t *eprop_arrived; /* input of the next update, membrane units */
static int16_t *eprop_feedback; /* n_heard a neuron */
static int32_t *eprop_errors; /* of each readout, to be heard now; then those of even and of odd ticks, as they arrive */
static int32_t *eprop_y, *eprop_error, *eprop_target;
static bool eprop_begun = false;
static callback_t eprop_rows; /* sPyNNaker's: fetches the rows of the packets that have come */
static volatile bool eprop_rows_wait; /* they are to be fetched once the neurons are updated */

static inline const eprop_cell_t *eprop_cell_of(uint32_t neuron) {
    return &eprop_cell[EPROP_CELLS->flags & EPROP_FLAG_UNIFORM ? 0 : neuron];
}

/* A packet with a payload: the error of a readout, in its tick's place. The colour below the key says which tick: it may come before or
 * after the update of the same tick here. On FIQ, so that neurons hear it in their update. */
static void eprop_error_received(uint key, uint payload) {
    const eprop_hearing_t *hearing = &eprop_core.learning.hearing;
    if ((key & hearing->mask) != hearing->key) {
        return;
    }
    const uint32_t readout = (key & ~hearing->mask) >> hearing->shift, odd = hearing->shift ? key & 1 : 1;
    if (readout < eprop_n_heard) {
        eprop_errors[(1 + odd) * eprop_n_heard + readout] += (int32_t) payload;
    }
}

/* Take the errors of the tick before this one. Returns whether there are any. */
static bool eprop_hear(void) {
    int32_t *arrived = &eprop_errors[(colour & 1 ? 1 : 2) * eprop_n_heard], any = 0;
    const uint state = spin1_int_disable();
    for (uint32_t k = 0; k < eprop_n_heard; k++) {
        any |= eprop_errors[k] = arrived[k];
        arrived[k] = 0;
    }
    spin1_mode_restore(state);
    return any != 0;
}

/* sPyNNaker's user event: packets have come. Rows are touched after the update of the tick of their packets. */
static void eprop_rows_due(uint first, uint second) {
    if (time + 1 == eprop_core.n_updates) { /* before the first tick sPyNNaker's time is -1 */
        eprop_rows(first, second);
    } else {
        eprop_rows_wait = true;
    }
}

/* Stand between sPyNNaker's handlers and their events, once it has set them. */
static void eprop_listen(uint first, uint second) {
    (void) first, (void) second;
    if (eprop_begun) {
        return;
    }
    eprop_begun = true;
    eprop_rows = callback[USER_EVENT].cback;
    spin1_callback_on(USER_EVENT, eprop_rows_due, callback[USER_EVENT].priority);
    if (eprop_n_heard) {
        /* sPyNNaker's handler takes payloads for counts of spikes: none of our networks has such packets. SpiNNaker's API allows a second
         * handler on FIQ only beside that of packets without payloads, so that one is set again first. */
        spin1_callback_on(MC_PACKET_RECEIVED, callback[MC_PACKET_RECEIVED].cback, callback[MC_PACKET_RECEIVED].priority);
        spin1_callback_on(MCPL_PACKET_RECEIVED, eprop_error_received, callback[MCPL_PACKET_RECEIVED].priority);
    }
}

static void *eprop_room(uint32_t n, uint32_t size) {
    uint8_t *found = spin1_malloc(n * size + 1); /* never of nothing, which is NULL */
    for (uint32_t i = 0; found != NULL && i < n * size; i++) {
        found[i] = 0;
    }
    return found;
}

static bool neuron_impl_initialise(uint32_t n_neurons) {
    eprop_core.n = n_neurons;
    eprop_state = eprop_room(n_neurons, sizeof *eprop_state);
    eprop_arrived = eprop_room(n_neurons, sizeof *eprop_arrived);
    return eprop_state && eprop_arrived && spin1_schedule_callback(eprop_listen, 0, 0, 1);
}

/* What depends on the parameters: readouts need other arrays than those who hear them. */
static bool eprop_make_room(uint32_t n) {
    eprop_cell = eprop_room(EPROP_CELLS->flags & EPROP_FLAG_UNIFORM ? 1 : n, sizeof *eprop_cell);
    if (EPROP_CELLS->flags & EPROP_FLAG_READOUT) {
        eprop_y = eprop_room(n, sizeof *eprop_y);
        eprop_error = eprop_room(n, sizeof *eprop_error);
        eprop_target = eprop_room(n, sizeof *eprop_target);
        return eprop_cell && eprop_y && eprop_error && eprop_target;
    }
    eprop_errors = eprop_room(3 * eprop_n_heard, sizeof *eprop_errors);
    eprop_feedback = eprop_room(n * eprop_n_heard, sizeof *eprop_feedback);
    return eprop_cell && eprop_errors && eprop_feedback;
}

static void neuron_impl_add_inputs(index_t synapse_type_index, index_t neuron_index, input_t weights_this_timestep) {
    const int32_t input = bitsk(weights_this_timestep);
    eprop_arrived[neuron_index] += synapse_type_index == 0 ? input : -input;
}

static void neuron_impl_load_neuron_parameters(address_t address, uint32_t next, uint32_t n_neurons, address_t save_initial_state) {
    const uint32_t *from = &address[next];
    spin1_memcpy(&eprop_cells, from, sizeof eprop_cells);
    from += sizeof eprop_cells / sizeof *from;
    eprop_n_heard = *from++;
    const bool first = eprop_cell == NULL; /* when a run goes on, parameters are read again: states stay */
    if (first && !eprop_make_room(n_neurons)) {
        log_error("no memory for the neurons");
        rt_error(RTE_SWERR);
    }
    for (uint32_t j = 0; j < n_neurons; j++) {
        if (j == 0 || !(EPROP_CELLS->flags & EPROP_FLAG_UNIFORM)) {
            spin1_memcpy(&eprop_cell[j], from, sizeof *eprop_cell);
            from += sizeof *eprop_cell / sizeof *from;
        }
        for (uint32_t k = 0; k < eprop_n_heard; k++) {
            eprop_feedback[j * eprop_n_heard + k] = (int16_t) *from++;
        }
        if (first) {
            eprop_state[j] = (eprop_state_of_neuron_t){.current = eprop_cell_of(j)->initial_current};
        }
    }
    if (save_initial_state) {
        spin1_memcpy(save_initial_state, address, (from - address) * sizeof *from);
    }
}

static void neuron_impl_store_neuron_parameters(address_t address, uint32_t next, uint32_t n_neurons) {
    (void) address, (void) next, (void) n_neurons; /* parameters do not change */
}

static inline input_t neuron_impl_get_v(index_t neuron_index) {
    return kbits(eprop_state[neuron_index].v);
}

/* What neuron j hears of the readouts. Sums of integers: the order of packets has no effect. */
static inline int32_t eprop_heard_by(uint32_t j) {
    const int16_t *feedback = &eprop_feedback[j * eprop_n_heard];
    int32_t heard = 0;
    for (uint32_t k = 0; k < eprop_n_heard; k++) {
        heard += feedback[k] * eprop_errors[k];
    }
    return heard;
}

static void eprop_update_hidden(uint32_t timer_count, uint32_t tick, uint32_t n) {
    const bool hears = eprop_hear();
    eprop_held_send();
    for (uint32_t j = 0; j < n; j++) {
        int32_t psi, reg;
        const eprop_cell_t *cell = eprop_cell_of(j);
        const bool fires = eprop_update(EPROP_CELLS, cell, eprop_arrived[j], &eprop_state[j], &psi, &reg);
        eprop_arrived[j] = 0;
        if (EPROP_CELLS->flags & EPROP_FLAG_LEARNS) {
            const int32_t signal = hears ? eprop_scaled(eprop_heard_by(j), EPROP_CELLS->signal) : 0;
            eprop_fold_neuron(
                    EPROP_SCALES, eprop_core.tick, psi, signal, reg, cell->adapt_decay, cell->adapt_step, &eprop_core.neurons[j],
                    eprop_core.rings[j]);
        }
        if (fires) {
            neuron_recording_record_bit(SPIKE_RECORDING_BITFIELD, j);
            eprop_held_spike(timer_count, tick, j);
        }
    }
    eprop_held_end();
}

/* Returns whether this tick has targets; they are then in eprop_target. */
static bool eprop_read_target(uint32_t n) {
    const eprop_learning_t *learning = &eprop_core.learning;
    const uint32_t row = learning->ticks_per_target ? eprop_core.tick / learning->ticks_per_target : 0;
    if (row >= learning->n_targets) {
        return false;
    }
    spin1_memcpy(eprop_target, &eprop_core.targets[row * n], n * sizeof *eprop_target);
    return eprop_target[0] != EPROP_NO_TARGET;
}

static void eprop_update_readouts(uint32_t n) {
    for (uint32_t j = 0; j < n; j++) {
        eprop_y[j] = eprop_update_readout(eprop_cell_of(j), eprop_arrived[j], &eprop_state[j]);
        eprop_arrived[j] = eprop_error[j] = 0;
    }
    if (eprop_read_target(n)) {
        if (EPROP_CELLS->flags & EPROP_FLAG_SOFTMAX) {
            eprop_softmax_errors(EPROP_CELLS, eprop_exp_table, n, eprop_y, eprop_target, eprop_error);
        } else {
            eprop_squared_errors(EPROP_CELLS, n, eprop_y, eprop_target, eprop_error);
        }
        for (uint32_t j = 0; j < n; j++) {
            if (eprop_error[j] && use_key) {
                send_spike_mc_payload(neuron_keys[j] | colour, (uint32_t) eprop_error[j]);
            }
        }
    }
    if (EPROP_CELLS->flags & EPROP_FLAG_LEARNS) {
        for (uint32_t j = 0; j < n; j++) {
            const int32_t error = eprop_scaled(eprop_error[j], EPROP_CELLS->learn);
            eprop_fold_readout(EPROP_SCALES, eprop_core.tick, error, &eprop_core.neurons[j], eprop_core.rings[j]);
        }
    }
}

/* Neurons at rest, their coefficients too: rows have forgotten theirs in the break. */
static void eprop_forget(uint32_t n) {
    for (uint32_t j = 0; j < n; j++) {
        eprop_state[j] = (eprop_state_of_neuron_t){.current = eprop_cell_of(j)->initial_current};
        eprop_arrived[j] = 0;
        eprop_core.neurons[j] = (eprop_neuron_t){0};
        for (uint32_t i = 0; i < EPROP_RING; i++) {
            eprop_core.rings[j][i] = (eprop_block_t){0};
        }
    }
}

/* Membranes as they are before the update, rest included, as sPyNNaker's own cells are recorded. */
static void eprop_record(uint32_t n) {
    for (uint32_t j = 0; j < n; j++) {
        const int32_t v = eprop_limited((int64_t) eprop_state[j].v + eprop_cell_of(j)->leak, INT32_MAX);
        neuron_recording_record_accum(V_RECORDING_INDEX, j, kbits(v));
    }
}

static void eprop_step(uint32_t timer_count, uint32_t tick, uint32_t n) {
    eprop_record(n);
    const bool begins = eprop_set_time(tick);
    if ((begins || eprop_core.in_break) && eprop_errors != NULL) {
        eprop_hear(); /* of before: forgotten */
    }
    if (begins) {
        eprop_forget(n);
    }
    if (eprop_core.in_break) {
        eprop_held_forget();
    } else if (EPROP_CELLS->flags & EPROP_FLAG_READOUT) {
        eprop_update_readouts(n);
    } else {
        eprop_update_hidden(timer_count, tick, n);
    }
}

/* Packets are taken in meanwhile (FIQ), but no row is touched (IRQ) while the coefficients change. Then come the rows of the sweep and those
 * of the packets. */
static void neuron_impl_do_timestep_update(uint32_t timer_count, uint32_t tick, uint32_t n_neurons) {
    static bool first = true;
    if (first && !eprop_held_initialise(n_neurons)) { /* needs both halves of the core */
        log_error("no memory for spikes that are held back");
        rt_error(RTE_SWERR);
    }
    first = false;
    const uint state = spin1_irq_disable();
    eprop_listen(0, 0);
    eprop_step(timer_count, tick, n_neurons);
    eprop_core.n_updates = tick + 1;
    const uint32_t due = eprop_sweep_due();
    if (due) {
        spike_processing_do_rewiring((int) due);
    }
    if (eprop_rows_wait && spin1_trigger_user_event(0, 0)) {
        eprop_rows_wait = false;
    }
    spin1_mode_restore(state);
}

#endif
