/* A core as a process: what sPyNNaker's c_main.c, neuron.c, synapses.c, spike_processing.c and population table and SpiNNaker's API do around
 * the extension, in their order and with what they forbid, reduced to what it sees.
 *
 * stdin, 32-bit words: neurons, key of the first, ring buffer shift, bits of delay, bits of the colour; words and content of the neurons' region, of the
 * synapses' region; rows: their number, then key, words and content of each. Then commands:
 *   0 time                   a timer tick: writes the membranes that were recorded, the number of packets sent, then (key, has payload, payload)
 *                            of each
 *   1 n (key, has, payload)  packets arrive; their rows are processed, behind the sweep's
 *   2                        writes membranes, v and threshold's rise of each neuron; then coefficients of each; then all rows, changed
 *                            parts included; then saturated states and ring buffers
 *   3                        ends
 *   4                        a run goes on: sPyNNaker reads the parameters again
 *   5 n (key, has, payload)  packets that will arrive in the next tick before its neurons are updated: those without a payload after the
 *                            timer's interrupt, those with one in the midst of the update
 * The lower bits of a spike's key are the colour, the time at which it is sent: a packet of another tick ends the program. */

#include "neuron_impl_eprop.h"
#include "shim.h"

#define QUEUE 65536

uint32_t time = UINT32_MAX, *neuron_keys, colour;
bool use_key = true;
uint32_t synapse_type_index_bits, synapse_index_bits, synapse_delay_mask;
uint16_t items_to_go;
cback_t callback[NUM_EVENTS];
static int fiq_event = -1;
static bool irq_off, event_pending, dma_busy;
static struct {
    callback_t callback;
    uint first, second;
} scheduled[16];
static uint32_t n_scheduled, rewires_to_do, n_in, first_in;
static spike_t in_spikes[QUEUE];
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

void spin1_callback_on(uint event, callback_t cback, int priority) {
    callback[event] = (cback_t){cback, priority};
    if (priority < 0) { /* one on FIQ, but both kinds of multicast packets */
        const int other = event == MC_PACKET_RECEIVED ? MCPL_PACKET_RECEIVED : event == MCPL_PACKET_RECEIVED ? MC_PACKET_RECEIVED : -2;
        if (fiq_event != -1 && fiq_event != other) {
            rt_error(RTE_API);
        }
        fiq_event = (int) event;
    }
}

uint spin1_schedule_callback(callback_t cback, uint first, uint second, uint priority) {
    if (n_scheduled == 16 || priority != 1) {
        return 0;
    }
    scheduled[n_scheduled].callback = cback;
    scheduled[n_scheduled].first = first;
    scheduled[n_scheduled].second = second;
    n_scheduled++;
    return 1;
}

static void dispatch(void) {
    for (uint32_t i = 0; i < n_scheduled; i++) { /* what is scheduled meanwhile too */
        scheduled[i].callback(scheduled[i].first, scheduled[i].second);
    }
    n_scheduled = 0;
}

static void interrupts(void) {
    while (event_pending && !irq_off) {
        event_pending = false;
        irq_off = true; /* handlers do not interrupt each other */
        callback[USER_EVENT].cback(0, 0);
        irq_off = false;
    }
}

uint spin1_trigger_user_event(uint first, uint second) {
    (void) first, (void) second;
    event_pending = true;
    interrupts();
    return 1;
}

uint spin1_irq_disable(void) {
    const uint before = irq_off;
    irq_off = true;
    return before;
}

uint spin1_int_disable(void) {
    return spin1_irq_disable();
}

void spin1_mode_restore(uint state) {
    irq_off = state;
    interrupts();
}

static void start_dma_loop(void) {
    if (!dma_busy) {
        dma_busy = true;
        spin1_trigger_user_event(0, 0);
    }
}

bool spike_processing_do_rewiring(int number_of_rewires) {
    rewires_to_do += (uint32_t) number_of_rewires;
    start_dma_loop();
    return true;
}

static void spike_received(uint key, uint payload) {
    (void) payload;
    in_spikes[n_in++ % QUEUE] = key;
    start_dma_loop();
}

static void spikes_received(uint key, uint payload) { /* sPyNNaker's: a payload counts spikes */
    (void) key, (void) payload;
    exit(8);
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
static uint32_t (*early)[3], n_early; /* packets of command 5 */

static void packets_with_payload(void) {
    for (uint32_t i = 0; i < n_early; i++) {
        if (early[i][1]) {
            callback[MCPL_PACKET_RECEIVED].cback(early[i][0], early[i][2]);
        }
    }
}

void neuron_recording_record_accum(uint32_t variable, uint32_t neuron, input_t value) {
    (void) variable;
    recorded[neuron] = bitsk(value);
}

/* In the midst of an update. */
void neuron_recording_record_bit(uint32_t variable, uint32_t neuron) {
    (void) variable, (void) neuron;
    packets_with_payload();
    n_early = 0;
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

static uint32_t next_item;

bool population_table_get_next_address(spike_t *spike, pop_table_lookup_result_t *result) {
    if (items_to_go == 0) {
        return false;
    }
    *spike = row_key[next_item];
    *result = (pop_table_lookup_result_t){rows[next_item], row_words[next_item] * sizeof(uint32_t), 0, colour_mask};
    next_item++;
    items_to_go--;
    return true;
}

bool population_table_get_first_address(spike_t spike, pop_table_lookup_result_t *result) {
    const uint32_t key = spike & ~colour_mask;
    next_item = find(key);
    items_to_go = 0;
    while (next_item + items_to_go < n_rows && row_key[next_item + items_to_go] == key) {
        items_to_go++;
    }
    spike_t local;
    return population_table_get_next_address(&local, result);
}

static void tick(void) {
    time++;
    for (uint32_t i = 0; i < n_early; i++) {
        if (!early[i][1]) {
            callback[MC_PACKET_RECEIVED].cback(early[i][0], 0); /* its event comes before what follows */
        }
    }
    for (uint32_t type = 0; type < 2; type++) {
        for (uint32_t j = 0; j < n_neurons; j++) {
            weight_t *slot = &ring_buffers[synapse_row_get_ring_buffer_index(
                    time, type, j, synapse_type_index_bits, synapse_index_bits, synapse_delay_mask)];
            if (*slot) {
                neuron_impl_add_inputs(type, j, kbits((int32_t) *slot << shift));
                *slot = 0;
            }
        }
    }
    spike_processing_do_rewiring((int) synaptogenesis_n_updates());
    neuron_impl_do_timestep_update(0, time, n_neurons);
    if (n_early) { /* no neuron has spiked */
        packets_with_payload();
        n_early = 0;
    }
    colour = (colour + 1) & colour_mask;
    dispatch();
    give(recorded, n_neurons * sizeof *recorded);
    give(&n_sent, sizeof n_sent);
    give(packets, n_sent * 3 * sizeof *packets);
    n_sent = 0;
}

static void process(synaptic_row_t row) {
    synapse_row_fixed_part_t *fixed = synapse_row_fixed_region(row);
    if (synapse_row_plastic_size(row)) {
        bool write_back = false;
        if (!synapse_dynamics_process_plastic_synapses(synapse_row_plastic_region(row), fixed, ring_buffers, time, 0, &write_back) ||
                !write_back) {
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

/* The next row that there is something to do with: rewiring first, then the spike's other rows, then spikes. */
static bool something_to_do(pop_table_lookup_result_t *result, bool *rewires) {
    spike_t spike;
    for (*rewires = true; rewires_to_do > 0;) {
        rewires_to_do--;
        if (synaptogenesis_dynamics_rewire(time, &spike, result)) {
            return true;
        }
    }
    *rewires = false;
    if (population_table_get_next_address(&spike, result)) {
        return true;
    }
    while (first_in != n_in) {
        spike = in_spikes[first_in++ % QUEUE];
        if ((spike ^ time) & colour_mask) {
            exit(7);
        }
        if (population_table_get_first_address(spike, result)) {
            synaptogenesis_spike_received(time, spike);
            return true;
        }
    }
    return false;
}

/* sPyNNaker's user event: the loop of DMAs. */
static void fetch_rows(uint first, uint second) {
    (void) first, (void) second;
    bool rewires;
    for (pop_table_lookup_result_t found; something_to_do(&found, &rewires);) {
        if (rewires) {
            synaptogenesis_row_restructure(time, found.row_address);
        } else {
            process(found.row_address);
        }
    }
    dma_busy = false;
}

static void take_packets(uint32_t n, uint32_t (*to)[3]) {
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t k = 0; k < 3; k++) {
            to[i][k] = word();
        }
    }
}

static void arrive(void) {
    const uint32_t n = word();
    for (uint32_t i = 0; i < n; i++) {
        uint32_t packet[1][3];
        take_packets(1, packet);
        callback[packet[0][1] ? MCPL_PACKET_RECEIVED : MC_PACKET_RECEIVED].cback(packet[0][0], packet[0][2]);
    }
    dispatch();
}

static void dump(void) {
    for (uint32_t j = 0; j < n_neurons; j++) {
        give(&eprop_state[j], sizeof *eprop_state);
    }
    give(eprop_core.neurons, n_neurons * sizeof *eprop_core.neurons);
    for (uint32_t i = 0; i < n_rows; i++) {
        give(rows[i], row_words[i] * sizeof(uint32_t));
    }
    const uint32_t counts[2] = {eprop_core.saturated, synapse_dynamics_get_plastic_saturation_count()};
    give(counts, sizeof counts);
}

int main(void) {
    static uint32_t *neurons, *synapses; /* static: the leak checker follows them */
    uint32_t words, regions = 0;
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
        rows[i] = (synaptic_row_t) block(&row_words[i]);
    }
    spin1_callback_on(MC_PACKET_RECEIVED, spike_received, -1);
    spin1_callback_on(MCPL_PACKET_RECEIVED, spikes_received, -1);
    spin1_callback_on(USER_EVENT, fetch_rows, 0);
    dispatch();
    for (uint32_t command = word(); command != 3; command = word()) {
        if (command == 0) {
            if (word() != time + 1) {
                return 9;
            }
            tick();
        } else if (command == 1) {
            arrive();
        } else if (command == 5) {
            n_early = word();
            early = realloc(early, (n_early + 1) * sizeof *early);
            take_packets(n_early, early);
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
