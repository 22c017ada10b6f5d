/* A core as a process: what sPyNNaker's neuron.c, synapses.c and spike_processing.c do around the extension, reduced to what it sees.
 *
 * stdin, 32-bit words: neurons, key of the first, ring buffer shift, bits of delay, bits of the colour; words and content of the neurons' region, of the
 * synapses' region; rows: their number, then key, words and content of each. Then commands:
 *   0 time                   a timer tick: writes the membranes that were recorded, the number of packets sent, then (key, has payload, payload)
 *                            of each
 *   1 n (key, has, payload)  packets arrive: the sweep's rows, then theirs
 *   2                        writes membranes, v and threshold's rise of each neuron; then coefficients of each; then all rows, changed
 *                            parts included; then saturated states and ring buffers
 *   3                        ends
 *   4                        a run goes on: sPyNNaker reads the parameters again
 * The lower bits of a spike's key are the colour, the time at which it is sent: a packet of another tick ends the program. */

#include "neuron_impl_eprop.h"
#include "shim.h"

uint32_t *neuron_keys, colour;
bool use_key = true;
uint32_t synapse_type_index_bits, synapse_index_bits, synapse_delay_mask;
static callback_t on_payload;
static uint32_t n_neurons, colour_mask, shift, n_rows, *row_key, n_sent;
static synaptic_row_t *rows;
static uint32_t *row_words;
static weight_t *ring_buffers;
static uint32_t *packets;

static void take(void *to, size_t size) {
    if (size && fread(to, size, 1, stdin) != 1) {
        fputs("input ends early\n", stderr);
        exit(2);
    }
}

static uint32_t word(void) {
    uint32_t found;
    take(&found, sizeof found);
    return found;
}

static uint32_t *block(uint32_t *n_words) {
    *n_words = word();
    uint32_t *found = malloc(*n_words * sizeof *found + 1);
    take(found, *n_words * sizeof *found);
    return found;
}

static void give(const void *from, size_t size) {
    if (size && fwrite(from, size, 1, stdout) != 1) {
        exit(4);
    }
}

void spin1_callback_on(uint event, callback_t callback, int priority) {
    (void) priority;
    if (event == MCPL_PACKET_RECEIVED) {
        on_payload = callback;
    }
}

static void send(uint32_t key, uint32_t has, uint32_t payload) {
    packets = realloc(packets, (n_sent + 1) * 3 * sizeof *packets);
    packets[3 * n_sent] = key;
    packets[3 * n_sent + 1] = has;
    packets[3 * n_sent + 2] = payload;
    n_sent++;
}

void send_spike(uint32_t timer_count, uint32_t time, uint32_t neuron_index) {
    (void) timer_count;
    synapse_dynamics_process_post_synaptic_event(time, neuron_index);
    send_spike_mc(neuron_keys[neuron_index] | colour);
}

void send_spike_mc(uint32_t key) {
    send(key, 0, 0);
}

void send_spike_mc_payload(uint32_t key, uint32_t payload) {
    send(key, 1, payload);
}

static int32_t *recorded;

void neuron_recording_record_accum(uint32_t variable, uint32_t neuron, input_t value) {
    (void) variable;
    recorded[neuron] = value;
}

static uint32_t find(uint32_t key) { /* rows are sorted by key */
    uint32_t low = 0, high = n_rows;
    while (low < high) {
        const uint32_t middle = (low + high) / 2;
        if (row_key[middle] < key) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < n_rows && row_key[low] == key ? low : n_rows;
}

static uint32_t found_last;

static bool found(uint32_t at, pop_table_lookup_result_t *result) {
    found_last = at;
    result->row_address = rows[at];
    result->n_bytes_to_transfer = row_words[at] * sizeof(uint32_t);
    return true;
}

bool population_table_get_first_address(spike_t spike, pop_table_lookup_result_t *result) {
    const uint32_t at = find(spike);
    return at < n_rows && found(at, result);
}

bool population_table_get_next_address(spike_t *spike, pop_table_lookup_result_t *result) {
    const uint32_t at = found_last + 1;
    if (at >= n_rows || row_key[at] != row_key[found_last]) {
        return false;
    }
    *spike = row_key[at];
    return found(at, result);
}

static void tick(uint32_t time) {
    n_sent = 0;
    colour = time & colour_mask;
    for (uint32_t type = 0; type < 2; type++) {
        for (uint32_t j = 0; j < n_neurons; j++) {
            weight_t *slot = &ring_buffers[synapse_row_get_ring_buffer_index(
                    time, type, j, synapse_type_index_bits, synapse_index_bits, synapse_delay_mask)];
            if (*slot) {
                neuron_impl_add_inputs(type, j, (int32_t) *slot << shift);
                *slot = 0;
            }
        }
    }
    neuron_impl_do_timestep_update(0, time, n_neurons);
    give(recorded, n_neurons * sizeof *recorded);
    give(&n_sent, sizeof n_sent);
    give(packets, n_sent * 3 * sizeof *packets);
}

static void process(synaptic_row_t row, uint32_t time) {
    synapse_row_fixed_part_t *fixed = synapse_row_fixed_region(row);
    if (synapse_row_plastic_size(row)) {
        bool write_back;
        if (!synapse_dynamics_process_plastic_synapses(synapse_row_plastic_region(row), fixed, ring_buffers, time, 0, &write_back)) {
            exit(6);
        }
    }
    for (uint32_t i = 0; i < fixed->n_fixed; i++) {
        const uint32_t synapse = fixed->data[i], place = synapse & ((1u << synapse_type_index_bits) - 1);
        const uint32_t delay = synapse >> synapse_type_index_bits & synapse_delay_mask;
        weight_t *slot = &ring_buffers[((time + delay) & synapse_delay_mask) << synapse_type_index_bits | place];
        const uint32_t sum = *slot + (synapse >> 16);
        *slot = (weight_t) (sum > UINT16_MAX ? UINT16_MAX : sum);
    }
}

static void arrive(uint32_t time) {
    const uint32_t n = word();
    for (uint32_t left = synaptogenesis_n_updates(); left > 0; left--) {
        spike_t spike;
        pop_table_lookup_result_t found;
        if (synaptogenesis_dynamics_rewire(time, &spike, &found)) {
            synaptogenesis_row_restructure(time, found.row_address);
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t key = word();
        const uint32_t has = word(), payload = word();
        if (has) {
            if (on_payload) {
                on_payload(key, payload);
            }
        } else {
            if ((key ^ time) & colour_mask) {
                exit(7);
            }
            key &= ~colour_mask;
            for (uint32_t at = find(key); at < n_rows && row_key[at] == key; at++) {
                process(rows[at], time);
            }
        }
    }
}

static void dump(void) {
    for (uint32_t j = 0; j < n_neurons; j++) {
        give(&eprop_state[j], sizeof *eprop_state);
    }
    give(eprop_core.neurons, n_neurons * sizeof *eprop_core.neurons);
    for (uint32_t i = 0; i < n_rows; i++) {
        give(rows[i], row_words[i] * sizeof **rows);
    }
    const uint32_t counts[2] = {eprop_core.saturated, synapse_dynamics_get_plastic_saturation_count()};
    give(counts, sizeof counts);
}

int main(void) {
    static uint32_t *neurons, *synapses; /* static: the leak checker follows them */
    uint32_t words, time = 0, regions = 0;
    n_neurons = word();
    const uint32_t key = word();
    shift = word();
    const uint32_t delay_bits = word(), colour_bits = word();
    colour_mask = (1u << colour_bits) - 1;
    while ((1u << synapse_index_bits) < n_neurons) {
        synapse_index_bits++;
    }
    synapse_type_index_bits = synapse_index_bits + 1;
    synapse_delay_mask = (1u << delay_bits) - 1;
    ring_buffers = calloc((size_t) 1 << (synapse_type_index_bits + delay_bits), sizeof *ring_buffers);
    neuron_keys = malloc(n_neurons * sizeof *neuron_keys);
    recorded = calloc(n_neurons, sizeof *recorded);
    for (uint32_t j = 0; j < n_neurons; j++) {
        neuron_keys[j] = key + (j << colour_bits);
    }
    neurons = block(&words);
    if (!neuron_impl_initialise(n_neurons)) {
        return 3;
    }
    neuron_impl_load_neuron_parameters(neurons, 0, n_neurons, NULL);
    synapses = block(&words);
    if (!synapse_dynamics_initialise(synapses, n_neurons, 2, NULL) || !synaptogenesis_dynamics_initialise(NULL, &regions)) {
        return 3;
    }
    n_rows = word();
    rows = malloc(n_rows * sizeof *rows + 1);
    row_key = malloc(n_rows * sizeof *row_key + 1);
    row_words = malloc(n_rows * sizeof *row_words + 1);
    for (uint32_t i = 0; i < n_rows; i++) {
        row_key[i] = word();
        rows[i] = block(&row_words[i]);
    }
    for (uint32_t command = word(); command != 3; command = word()) {
        if (command == 0) {
            time = word();
            tick(time);
        } else if (command == 1) {
            arrive(time);
        } else if (command == 4) {
            neuron_impl_load_neuron_parameters(neurons, 0, n_neurons, NULL);
        } else {
            dump();
        }
        fflush(stdout);
    }
    neuron_impl_store_neuron_parameters(neurons, 0, n_neurons);
    return 0;
}
