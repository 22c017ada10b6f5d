/* Event-driven e-prop in integers: a core's coefficients and the rows of synapses that they change.
 *
 * docs/spinnaker-eprop.md of neurocompile derives the formulas. A step's order on a core: neurons are updated, eprop_fold takes the step's
 * psi and the learning signal of two steps ago, then rows are touched as their sources' packets arrive. One thread; no allocation.
 * Shifts to the right are of negative numbers too, which gcc does arithmetically. */

#ifndef EPROP_H
#define EPROP_H

#include <stdbool.h>
#include <stdint.h>

#define EPROP_WINDOW_BITS 5
#define EPROP_WINDOW (1 << EPROP_WINDOW_BITS) /* steps of a block */
#define EPROP_LEVELS 3 /* totals are kept of 1, 2 and 4 blocks */
#define EPROP_POWER_BITS 16
#define EPROP_ACCUMULATOR_BITS 14 /* fraction bits of a weight beyond those that are sent */
#ifndef EPROP_BLOCKS
#define EPROP_BLOCKS 8 /* finished blocks that a neuron keeps: every row must be touched within as many; a multiple of 4 */
#endif
#define EPROP_RING (EPROP_BLOCKS * 7 / 4)
#ifndef EPROP_STATE_BITS
#define EPROP_STATE_BITS 16
#endif

/* Neurons adapt: a second eligibility state, q, which stands for eps. 0: nothing of it is compiled. */
#ifndef EPROP_ADAPTIVE
#define EPROP_ADAPTIVE 0
#endif
#define EPROP_PIECES 128 /* of the table of 1 / (rho - beta psi) */
#define EPROP_WHOLE_BITS 30 /* fraction bits of its entries, and of m */

#if EPROP_STATE_BITS == 16
typedef int16_t eprop_state_t;
#else
typedef int32_t eprop_state_t;
#endif

/* Tables and numbers that follow from the rule; the compiler of neurocompile fills them in. */
typedef struct {
    int32_t alpha[EPROP_WINDOW + 1], alpha_inverse[EPROP_WINDOW + 1];
    int32_t kappa_past[EPROP_WINDOW + 1], kappa_reg_past[EPROP_WINDOW + 1];
    int32_t undo[EPROP_WINDOW + 1], undo_reg[EPROP_WINDOW + 1];
    int32_t alpha_window[EPROP_LEVELS], kappa_window[EPROP_LEVELS], kappa_reg_window[EPROP_LEVELS];
#if EPROP_ADAPTIVE
    int32_t inverse[EPROP_PIECES + 1];
#endif
    int32_t kappa, kappa_reg, rest_reg, before, before_reg;
    int32_t psi_to_a, psi_to_b, signal_to_c, signal_to_d, a_to_total, b_to_total, a_to_e, b_to_r; /* shifts to the right */
    int32_t power, power_reg, sum_bits;
    int32_t state_most, signal_max, reg_max; /* reg_max 0: there is no regularisation, and rows have no r */
#if EPROP_ADAPTIVE
    int32_t mix, whole_to_mix, rise, decay_bits, decay_least, piece, inverse_bits, aq_to_x, x_to_q, a_to_b;
#endif
} eprop_scales_t;

/* Where the compiler knows a rule's numbers (EPROP_NUMBERS), each unit would have their tables beside its code, in ITCM, which is scarce:
 * tables are read from the core's copy in DTCM. */
#ifdef EPROP_NUMBERS
extern eprop_scales_t eprop_rule;
#define EPROP_TABLES(K) (&eprop_rule)
#else
#define EPROP_TABLES(K) (K)
#endif

/* Coefficients of a neuron in the block that is under way. */
typedef struct {
    int32_t a, a_old, b, b_old, c, d, e, psi;
#if EPROP_ADAPTIVE
    int32_t m, inverse, aq, ae, ae_old, be, be_old, eq; /* m and 1 / m, Aq, Ae, Be, Eq */
    int32_t x, y, y_reg; /* Aq / m, A - Ae Aq / m, B - Be Aq / m: what spikes undo */
#endif
} eprop_neuron_t;

/* The same of finished blocks. */
typedef struct {
    int32_t a, b, c, d, e;
#if EPROP_ADAPTIVE
    int32_t m, aq, ae, be, eq;
#endif
} eprop_block_t;

/* One source's synapses onto a core. The arrays have n entries; r is not read without regularisation, q not without adaptation. */
typedef struct {
    int32_t z;      /* trace of the source, anchored at the beginning of .. */
    uint32_t block; /* .. this block */
    int32_t *weight;
    eprop_state_t *e, *r, *q;
    const uint16_t *target;
    uint32_t n;
} eprop_row_t;

/* value 2^-shift to the nearest, halves up; shift 1 .. 62: the bit below the last one decides. */
static inline int64_t eprop_rounded(int64_t value, int32_t shift) {
    return (value >> shift) + (int32_t) ((value >> (shift - 1)) & 1);
}

/* The same where the result is known to fit 32 bits: half the instructions on a core whose shifts have 32. */
static inline int32_t eprop_rounded_word(int64_t value, int32_t shift) {
    const uint32_t low = (uint32_t) value, high = (uint32_t) (value >> 32);
    if (shift < 32) {
        return (int32_t) ((low >> shift | high << (32 - shift)) + (low >> (shift - 1) & 1));
    }
    if (shift == 32) {
        return (int32_t) (high + (low >> 31));
    }
    return ((int32_t) high >> (shift - 32)) + (int32_t) (high >> (shift - 33) & 1);
}

static inline int32_t eprop_limited(int64_t value, int32_t most) {
    return value < -most ? -most : value > most ? most : (int32_t) value;
}

static inline int64_t eprop_product(int32_t x, int32_t y) {
    return (int64_t) x * y; /* one smull */
}

/* Where the totals of the 2^level blocks that begin with a block stand in a ring. */
static inline uint32_t eprop_place(uint32_t level, uint32_t block) {
    return 2 * EPROP_BLOCKS - (2 * EPROP_BLOCKS >> level) + (block >> level) % (EPROP_BLOCKS >> level);
}

#if EPROP_ADAPTIVE
/* What goes through eps, for the totals of two stretches. */
static inline void eprop_compose_adaptive(
        const eprop_scales_t *k, uint32_t level, const eprop_block_t *first, const eprop_block_t *second, eprop_block_t *both) {
    const int32_t aq = first->aq, m = first->m, lost = first->ae;
    both->m = eprop_rounded_word(eprop_product(m, second->m), k->mix);
    both->aq = eprop_rounded_word(eprop_product(aq, second->m), k->mix)
            + eprop_rounded_word(eprop_product(second->aq, EPROP_TABLES(k)->alpha_window[level]), 30);
    both->a += eprop_rounded_word(eprop_product(aq, second->ae), k->mix);
    both->e += eprop_rounded_word(eprop_product(aq, second->eq), k->mix);
    both->ae = eprop_rounded_word(eprop_product(lost, EPROP_TABLES(k)->kappa_window[level]), k->power)
            + eprop_rounded_word(eprop_product(m, second->ae), k->mix);
    both->eq = first->eq + eprop_rounded_word(eprop_product(lost, second->c), k->power)
            + eprop_rounded_word(eprop_product(m, second->eq), k->mix);
    both->be = 0;
    if (k->reg_max) {
        const int32_t less = first->be;
        both->b += eprop_rounded_word(eprop_product(aq, second->be), k->mix);
        both->be = eprop_rounded_word(eprop_product(less, EPROP_TABLES(k)->kappa_reg_window[level]), k->power_reg)
                + eprop_rounded_word(eprop_product(m, second->be), k->mix);
        both->eq += eprop_rounded_word(eprop_product(less, second->d), k->power_reg);
    }
}

/* 1 / rest, 30 fraction bits; rest is rho - beta psi. Linear between the table's corners. */
static inline int32_t eprop_inverse(const eprop_scales_t *k, int32_t rest) {
    const int32_t place = rest - k->decay_least, at = place >> k->piece;
    const int32_t below = EPROP_TABLES(k)->inverse[at], rise = EPROP_TABLES(k)->inverse[at + 1] - below;
    return below + eprop_rounded_word(eprop_product(rise, place & ((1 << k->piece) - 1)), k->piece);
}

/* A block begins: what eps has to do with the step before it, whose psi the neuron still has. */
static inline void eprop_begin_adaptive(const eprop_scales_t *k, int32_t adapt_decay, int32_t adapt_step, eprop_neuron_t *own) {
    const int32_t share = eprop_rounded_word(eprop_product(own->psi, adapt_step), k->rise);
    const int32_t rho = adapt_decay >> (31 - k->decay_bits), inverse = eprop_inverse(k, rho - share);
    const int32_t ahead = eprop_rounded_word(eprop_product(rho, inverse), k->decay_bits);
    const int32_t lost = eprop_rounded_word(eprop_product(share, inverse), k->decay_bits);
    own->a_old = eprop_rounded_word(eprop_product(own->a_old, ahead), EPROP_WHOLE_BITS);
    own->ae_old = eprop_rounded_word(eprop_product(lost, k->kappa_past[0]), EPROP_POWER_BITS + k->whole_to_mix);
    own->m = 1 << EPROP_WHOLE_BITS;
    own->inverse = 1 << k->inverse_bits;
    own->aq = own->ae = own->be = own->eq = 0;
    if (k->reg_max) {
        const int32_t lost_reg = eprop_rounded_word(eprop_product(lost, k->kappa_reg_past[0]), EPROP_POWER_BITS);
        own->b_old = eprop_rounded_word(eprop_product(own->b_old, ahead), EPROP_WHOLE_BITS);
        own->be_old = eprop_rounded_word(eprop_product(lost_reg, k->rest_reg), k->whole_to_mix + k->a_to_b);
    }
}

/* psi of a step enters the coefficients of eps, and eps those of the eligibilities. enters: psi alpha^i as A has it. */
static inline void eprop_fold_adaptive(
        const eprop_scales_t *k, int32_t enters, int32_t adapt_decay, int32_t adapt_step, eprop_neuron_t *own) {
    const int32_t share = eprop_rounded_word(eprop_product(own->psi, adapt_step), k->rise);
    const int32_t rest = (adapt_decay >> (31 - k->decay_bits)) - share;
    const int32_t less = eprop_rounded_word(eprop_product(share, own->aq), k->decay_bits);
    const int32_t more = eprop_rounded_word(eprop_product(share, own->m), k->decay_bits + k->whole_to_mix);
    own->ae_old = own->ae;
    own->a -= less;
    own->ae = eprop_rounded_word(eprop_product(own->ae, k->kappa), EPROP_POWER_BITS) - more;
    own->aq = eprop_rounded_word(eprop_product(rest, own->aq), k->decay_bits) + enters;
    own->m = eprop_rounded_word(eprop_product(rest, own->m), k->decay_bits);
    own->inverse = eprop_rounded_word(eprop_product(own->inverse, eprop_inverse(k, rest)), EPROP_WHOLE_BITS);
    own->x = eprop_rounded_word(eprop_product(own->aq, own->inverse), k->aq_to_x);
    own->y = own->a - eprop_rounded_word(eprop_product(own->x, own->ae), k->x_to_q);
    if (k->reg_max) {
        own->be_old = own->be;
        own->b -= eprop_rounded_word(eprop_product(less, k->rest_reg), k->a_to_b);
        own->be = eprop_rounded_word(eprop_product(own->be, k->kappa_reg), EPROP_POWER_BITS)
                - eprop_rounded_word(eprop_product(more, k->rest_reg), k->a_to_b);
        own->y_reg = own->b - eprop_rounded_word(eprop_product(own->x, own->be), k->x_to_q);
    }
}
#endif

/* The totals of two stretches of 2^level blocks, one after the other. */
static inline void eprop_compose(
        const eprop_scales_t *k, uint32_t level, const eprop_block_t *first, const eprop_block_t *second, eprop_block_t *both) {
    const int32_t alpha = EPROP_TABLES(k)->alpha_window[level], kappa = EPROP_TABLES(k)->kappa_window[level];
    const int32_t kappa_reg = EPROP_TABLES(k)->kappa_reg_window[level];
    both->a = eprop_rounded_word(eprop_product(first->a, kappa), k->power) + eprop_rounded_word(eprop_product(second->a, alpha), 30);
    both->c = first->c + eprop_rounded_word(eprop_product(second->c, kappa), k->power);
    both->e = first->e + eprop_rounded_word(eprop_product(first->a, second->c), k->power)
            + eprop_rounded_word(eprop_product(second->e, alpha), 30);
    if (k->reg_max) {
        both->b = eprop_rounded_word(eprop_product(first->b, kappa_reg), k->power_reg)
                + eprop_rounded_word(eprop_product(second->b, alpha), 30);
        both->d = first->d + eprop_rounded_word(eprop_product(second->d, kappa_reg), k->power_reg);
        both->e += eprop_rounded_word(eprop_product(first->b, second->d), k->power_reg);
    }
#if EPROP_ADAPTIVE
    eprop_compose_adaptive(k, level, first, second, both);
#endif
}

/* Keep the totals of a finished block, and of the longer stretches that end with it. */
static inline void eprop_finish(const eprop_scales_t *k, uint32_t last, const eprop_neuron_t *own, eprop_block_t ring[EPROP_RING]) {
    eprop_block_t *block = &ring[eprop_place(0, last)];
    *block = (eprop_block_t){.a = own->a, .b = own->b, .c = own->c, .d = own->d, .e = own->e};
#if EPROP_ADAPTIVE
    block->m = eprop_rounded_word(own->m, k->whole_to_mix);
    block->aq = own->aq;
    block->ae = own->ae;
    block->be = own->be;
    block->eq = own->eq;
#endif
    for (uint32_t level = 1; level < EPROP_LEVELS && ((last + 1) & ((1u << level) - 1)) == 0; level++) {
        const uint32_t half = 1u << (level - 1), begin = last + 1 - 2 * half;
        const eprop_block_t *first = &ring[eprop_place(level - 1, begin)], *second = &ring[eprop_place(level - 1, begin + half)];
        eprop_compose(k, level - 1, first, second, &ring[eprop_place(level, begin)]);
    }
}

/* psi of this tick, L and R of two before. adapt_decay, adapt_step: the neuron's rho and beta, read with EPROP_ADAPTIVE alone. */
static inline void eprop_fold_neuron(
        const eprop_scales_t *k, uint32_t tick, int32_t psi, int32_t signal, int32_t reg, int32_t adapt_decay, int32_t adapt_step,
        eprop_neuron_t *own, eprop_block_t ring[EPROP_RING]) {
    (void) adapt_decay, (void) adapt_step;
    const uint32_t i = tick & (EPROP_WINDOW - 1);
    if (i == 0) {
        if (tick) {
            eprop_finish(k, (tick >> EPROP_WINDOW_BITS) - 1, own, ring);
        }
        own->a = own->b = own->c = own->d = own->e = 0;
        own->a_old = -eprop_rounded_word(eprop_product(own->psi, k->before), k->psi_to_a);
        own->b_old = -eprop_rounded_word(eprop_product(own->psi, k->before_reg), k->psi_to_b - EPROP_POWER_BITS);
#if EPROP_ADAPTIVE
        eprop_begin_adaptive(k, adapt_decay, adapt_step, own);
#endif
    }
    const int32_t late = eprop_limited(signal, k->signal_max);
    own->c += eprop_rounded_word(eprop_product(late, EPROP_TABLES(k)->kappa_past[i]), k->signal_to_c);
    own->e += eprop_rounded_word(eprop_product(late, own->a_old), k->a_to_total);
    if (k->reg_max) {
        const int32_t hold = eprop_limited(reg, k->reg_max);
        own->d += eprop_rounded_word(eprop_product(hold, EPROP_TABLES(k)->kappa_reg_past[i]), k->signal_to_d);
        own->e += eprop_rounded_word(eprop_product(hold, own->b_old), k->b_to_total);
#if EPROP_ADAPTIVE
        own->eq += eprop_rounded_word(eprop_product(hold, own->be_old), k->b_to_total);
#endif
    }
#if EPROP_ADAPTIVE
    own->eq += eprop_rounded_word(eprop_product(late, own->ae_old), k->a_to_total);
#endif
    const int32_t a = own->a, b = own->b;
    const int64_t enters = eprop_product(psi, EPROP_TABLES(k)->alpha[i]);
    own->a_old = a;
    own->b_old = b;
    own->psi = psi;
    own->a = eprop_rounded_word(eprop_product(a, k->kappa), EPROP_POWER_BITS) + eprop_rounded_word(enters, k->psi_to_a);
    if (k->reg_max) {
        own->b = eprop_rounded_word(eprop_product(b, k->kappa_reg), EPROP_POWER_BITS)
                + eprop_rounded_word(enters * k->rest_reg, k->psi_to_b);
    }
#if EPROP_ADAPTIVE
    eprop_fold_adaptive(k, eprop_rounded_word(enters, k->psi_to_a), adapt_decay, adapt_step, own);
#endif
}

/* As eprop_fold_neuron for a readout, whose synapses change by the sum of error times zbar: E is all that it keeps. error: of this step,
 * in units of the rule's learning signal. */
static inline void eprop_fold_readout(
        const eprop_scales_t *k, uint32_t tick, int32_t error, eprop_neuron_t *own, eprop_block_t ring[EPROP_RING]) {
    const uint32_t i = tick & (EPROP_WINDOW - 1);
    if (i == 0) {
        if (tick) {
            eprop_finish(k, (tick >> EPROP_WINDOW_BITS) - 1, own, ring);
        }
        own->e = 0;
    }
    own->e += eprop_rounded_word(eprop_product(eprop_limited(error, k->signal_max), EPROP_TABLES(k)->alpha[i]), k->a_to_total);
}

/* The change that a synapse's e, r, q and its source's z stand for, by the coefficients c, d, e, eq of its target or of the target's
 * finished blocks, before it is rounded. q and eq are not looked at without adaptation. */
#define EPROP_CHANGE(K, E, R, Q, Z, OWN) \
    (eprop_product(E, (OWN)->c) + eprop_product(Z, (OWN)->e) + ((K)->reg_max ? eprop_product(R, (OWN)->d) : 0) + EPROP_OF_Q(Q, (OWN)->eq))
#if EPROP_ADAPTIVE
#define EPROP_OF_Q(Q, COEFFICIENT) eprop_product(Q, COEFFICIENT)
#else
#define EPROP_OF_Q(Q, COEFFICIENT) 0
#endif

/* Bring a row from its block to that of the tick: what every finished block in between has left. Returns how many states saturated. */
static inline uint32_t eprop_catch_up(
        const eprop_scales_t *k, uint32_t tick, eprop_row_t *row, eprop_block_t (*rings)[EPROP_RING]) {
    uint32_t saturated = 0;
    const uint32_t block = tick >> EPROP_WINDOW_BITS;
    uint32_t past = row->block;
    while (past < block) {
        uint32_t level = EPROP_LEVELS - 1;
        while ((past & ((1u << level) - 1)) || past + (1u << level) > block) {
            level--;
        }
        const uint32_t at = eprop_place(level, past);
        const int32_t z = row->z, kappa = EPROP_TABLES(k)->kappa_window[level], kappa_reg = EPROP_TABLES(k)->kappa_reg_window[level];
        for (uint32_t s = 0; s < row->n; s++) {
            const eprop_block_t *total = &rings[row->target[s]][at];
            const int32_t e = row->e[s], r = k->reg_max ? row->r[s] : 0;
#if EPROP_ADAPTIVE
            const int32_t q = row->q[s];
#endif
            const int64_t change = EPROP_CHANGE(k, e, r, q, z, total);
            row->weight[s] = eprop_limited(row->weight[s] - eprop_rounded(change, k->sum_bits), INT32_MAX);
            if (k->reg_max) {
                const int64_t grown = eprop_product(r, kappa_reg) + eprop_product(z, total->b) + EPROP_OF_Q(q, total->be);
                const int64_t later = eprop_rounded(grown, k->power_reg);
                row->r[s] = (eprop_state_t) eprop_limited(later, k->state_most);
                saturated += row->r[s] != later;
            }
            const int64_t grown = eprop_product(e, kappa) + eprop_product(z, total->a) + EPROP_OF_Q(q, total->ae);
            const int64_t later = eprop_rounded(grown, k->power);
            row->e[s] = (eprop_state_t) eprop_limited(later, k->state_most);
            saturated += row->e[s] != later;
#if EPROP_ADAPTIVE
            const int64_t later_q = eprop_rounded(eprop_product(q, total->m) + eprop_product(z, total->aq), k->mix);
            row->q[s] = (eprop_state_t) eprop_limited(later_q, k->state_most);
            saturated += row->q[s] != later_q;
#endif
        }
        row->z = eprop_rounded_word(eprop_product(z, EPROP_TABLES(k)->alpha_window[level]), 30);
        past += 1u << level;
    }
    row->block = block;
    return saturated;
}

/* A spike of the row's source in this tick, after eprop_catch_up: sent[s] becomes the 16-bit weight that reaches the target in the next
 * step. low, high: bounds of a weight with its fraction bits. Returns how many states saturated. */
static inline uint32_t eprop_spike(
        const eprop_scales_t *k, uint32_t tick, eprop_row_t *row, const eprop_neuron_t *neurons, int32_t low, int32_t high,
        int32_t *sent) {
    uint32_t saturated = 0;
    const uint32_t n = (tick & (EPROP_WINDOW - 1)) + 1;
    const int32_t z = row->z, more = eprop_limited((int64_t) z + EPROP_TABLES(k)->alpha_inverse[n], INT32_MAX);
    saturated += more != (int64_t) z + EPROP_TABLES(k)->alpha_inverse[n];
    for (uint32_t s = 0; s < row->n; s++) {
        const eprop_neuron_t *own = &neurons[row->target[s]];
        const int32_t e = row->e[s], r = k->reg_max ? row->r[s] : 0;
#if EPROP_ADAPTIVE
        const int32_t q = row->q[s], undone = own->y, undone_reg = own->y_reg;
#else
        const int32_t undone = own->a, undone_reg = own->b;
#endif
        const int64_t wanted = row->weight[s] - eprop_rounded(EPROP_CHANGE(k, e, r, q, z, own), k->sum_bits);
        const int32_t weight = wanted < low ? low : wanted > high ? high : (int32_t) wanted;
        sent[s] = eprop_rounded_word(weight, EPROP_ACCUMULATOR_BITS);
        const int64_t later = e - eprop_rounded(eprop_product(undone, EPROP_TABLES(k)->undo[n]), k->a_to_e);
        const int32_t e_now = eprop_limited(later, k->state_most);
        int32_t r_now = 0;
        saturated += e_now != later;
        row->e[s] = (eprop_state_t) e_now;
        if (k->reg_max) {
            const int64_t later_reg = r - eprop_rounded(eprop_product(undone_reg, EPROP_TABLES(k)->undo_reg[n]), k->b_to_r);
            r_now = eprop_limited(later_reg, k->state_most);
            saturated += r_now != later_reg;
            row->r[s] = (eprop_state_t) r_now;
        }
#if EPROP_ADAPTIVE
        const int64_t later_q = q - eprop_rounded(eprop_product(own->x, EPROP_TABLES(k)->alpha_inverse[n]), k->x_to_q);
        const int32_t q_now = eprop_limited(later_q, k->state_most);
        saturated += q_now != later_q;
        row->q[s] = (eprop_state_t) q_now;
#endif
        const int64_t unsettled = eprop_rounded(EPROP_CHANGE(k, e_now, r_now, q_now, more, own), k->sum_bits);
        row->weight[s] = eprop_limited(weight + unsettled, INT32_MAX);
    }
    row->z = more;
    return saturated;
}

/* The weights that would be sent now become the row's, and its traces are forgotten: what comes between two samples. After eprop_catch_up. */
static inline void eprop_reset_row(
        const eprop_scales_t *k, eprop_row_t *row, const eprop_neuron_t *neurons, int32_t low, int32_t high) {
    for (uint32_t s = 0; s < row->n; s++) {
        const eprop_neuron_t *own = &neurons[row->target[s]];
        const int64_t change = EPROP_CHANGE(k, row->e[s], k->reg_max ? row->r[s] : 0, row->q[s], row->z, own);
        const int64_t weight = row->weight[s] - eprop_rounded(change, k->sum_bits);
        row->weight[s] = weight < low ? low : weight > high ? high : (int32_t) weight;
        row->e[s] = 0;
        if (k->reg_max) {
            row->r[s] = 0;
        }
#if EPROP_ADAPTIVE
        row->q[s] = 0;
#endif
    }
    row->z = 0;
}

#endif
