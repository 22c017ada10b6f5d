/* Spikes that are held back: plastic rows of delay d are touched d - 1 ticks after a spike, so their source sends it then, under a key of
 * that delay. A bit for each neuron and tick; eprop_send_t's list says how long each key waits. */

#ifndef EPROP_HELD_H
#define EPROP_HELD_H

#include <neuron/send_spike.h>
#include <spin1_api.h>

#include "eprop_core.h"

typedef struct {
    eprop_send_t *sends;
    uint32_t n_sends;
    bool at_once; /* a key does not wait */
    uint32_t longest, words; /* ticks that spikes are kept, words of each */
    uint32_t *spiked; /* longest rows of words: bit j % 32 of word j / 32: neuron j has spiked */
    uint32_t now; /* the row of this tick */
} eprop_held_t;

static eprop_held_t eprop_held;

static inline uint32_t *eprop_held_row(uint32_t wait) {
    const uint32_t row = eprop_held.now + eprop_held.longest - wait;
    return &eprop_held.spiked[(row < eprop_held.longest ? row : row - eprop_held.longest) * eprop_held.words];
}

static void eprop_held_forget(void) {
    for (uint32_t i = 0; i < eprop_held.longest * eprop_held.words; i++) {
        eprop_held.spiked[i] = 0;
    }
}

/* Returns false if there is no memory. */
static bool eprop_held_initialise(uint32_t n_neurons) {
    eprop_held_t *held = &eprop_held;
    held->n_sends = eprop_core.learning.n_sends;
    held->sends = spin1_malloc((held->n_sends + 1) * sizeof *held->sends); /* never of nothing */
    if (held->sends == NULL) {
        return false;
    }
    spin1_memcpy(held->sends, eprop_core.sends, held->n_sends * sizeof *held->sends);
    for (uint32_t i = 0; i < held->n_sends; i++) {
        const uint32_t wait = held->sends[i].wait;
        held->at_once = held->at_once || wait == 0;
        held->longest = wait > held->longest ? wait : held->longest;
    }
    held->words = (n_neurons + 31) / 32;
    held->spiked = spin1_malloc((held->longest * held->words + 1) * sizeof *held->spiked);
    if (held->spiked == NULL) {
        return false;
    }
    eprop_held_forget();
    return true;
}

/* Send the spikes whose time has come, before the neurons' update; the row of this tick is then empty. The colour is of the tick in which
 * a packet is sent: sPyNNaker's targets take a difference for a packet that comes late. */
static void eprop_held_send(void) {
    for (uint32_t i = 0; i < eprop_held.n_sends; i++) {
        const eprop_send_t *send = &eprop_held.sends[i];
        const uint32_t *row = send->wait > 0 ? eprop_held_row(send->wait) : NULL;
        for (uint32_t word = 0; row != NULL && use_key && word < eprop_held.words; word++) {
            for (uint32_t left = row[word]; left;) {
                const uint32_t bit = 31 - (uint32_t) __builtin_clz(left);
                left &= ~(1u << bit);
                send_spike_mc((neuron_keys[32 * word + bit] + send->offset) | colour);
            }
        }
    }
    for (uint32_t word = 0; eprop_held.longest && word < eprop_held.words; word++) {
        eprop_held_row(0)[word] = 0;
    }
}

/* Neuron j spikes in this tick. */
static void eprop_held_spike(uint32_t timer_count, uint32_t time, uint32_t j) {
    if (eprop_held.at_once) {
        send_spike(timer_count, time, j);
    }
    if (eprop_held.longest) {
        eprop_held_row(0)[j / 32] |= 1u << j % 32;
    }
}

/* The neurons have been updated. */
static void eprop_held_end(void) {
    eprop_held.now = eprop_held.now + 1 < eprop_held.longest ? eprop_held.now + 1 : 0;
}

#endif
