//! Longest common subsequence, 64 cells at a time.
//!
//! Bit vectors after Hyyrö, "Bit-parallel LCS-length computation revisited" (2004): a 0 where the table grows from one row to
//! the next. Time n · m / 64 steps; a length takes O(n + m) memory, its positions are walked back through columns kept in
//! bounded pieces.

/// Words of bits kept at once while walking back, unless that makes more pieces than columns in a piece.
const KEPT: usize = 1 << 17;

/// Working memory for the sequences of one pair, whose symbols are below a common bound.
pub(crate) struct Lcs {
    /// Where each symbol is in the present block of 64 rows.
    masks: Vec<u64>,
    /// What overflowed from the block above into each column.
    carries: Vec<bool>,
}

impl Lcs {
    /// For symbols below `symbols`.
    pub(crate) fn new(symbols: usize) -> Lcs {
        Lcs { masks: vec![0; symbols], carries: Vec::new() }
    }

    /// How long the longest common subsequence is.
    pub(crate) fn length(&mut self, a: &[u32], b: &[u32]) -> u64 {
        let (rows, columns) = if a.len() >= b.len() { (a, b) } else { (b, a) };
        let mut state = vec![!0; rows.len().div_ceil(64)];
        self.advance(rows, columns, &mut state, |_, _, _| ());
        state.iter().map(|bits| u64::from(bits.count_zeros())).sum()
    }

    /// Sets `marks` at the positions of `reference` that are in its longest common subsequence with `candidate`: where there
    /// are several, the one that rouge-score walks back to.
    pub(crate) fn mark(&mut self, reference: &[u32], candidate: &[u32], marks: &mut [bool]) {
        let blocks = reference.len().div_ceil(64);
        if blocks == 0 || candidate.is_empty() {
            return;
        }
        let piece = (KEPT / blocks).max(candidate.len().isqrt()).clamp(1, candidate.len());
        let last = (candidate.len() - 1) / piece;
        let mut starts = vec![!0; blocks];
        for at in 0..last {
            let mut state = starts[at * blocks..].to_vec();
            self.advance(reference, &candidate[at * piece..(at + 1) * piece], &mut state, |_, _, _| ());
            starts.extend_from_slice(&state);
        }
        let mut kept = vec![0; piece * blocks];
        let mut row = reference.len();
        for at in (0..=last).rev() {
            let columns = &candidate[at * piece..candidate.len().min((at + 1) * piece)];
            let state = &mut starts[at * blocks..(at + 1) * blocks];
            self.advance(reference, columns, state, |column, block, bits| kept[column * blocks + block] = bits);
            let mut column = columns.len();
            while row > 0 && column > 0 {
                let above = row - 1;
                if reference[above] == columns[column - 1] {
                    marks[above] = true;
                    row -= 1;
                    column -= 1;
                } else if kept[(column - 1) * blocks + above / 64] >> (above % 64) & 1 == 0 {
                    column -= 1;
                } else {
                    row -= 1;
                }
            }
        }
    }

    /// Takes `state`, the bits of all rows, through `columns`; tells `keep` column, block and bits after each.
    fn advance(&mut self, rows: &[u32], columns: &[u32], state: &mut [u64], mut keep: impl FnMut(usize, usize, u64)) {
        self.carries.clear();
        self.carries.resize(columns.len(), false);
        for (block, (rows, state)) in rows.chunks(64).zip(state).enumerate() {
            for (bit, &symbol) in rows.iter().enumerate() {
                self.masks[symbol as usize] |= 1 << bit;
            }
            let mut bits = *state;
            for (column, (&symbol, carry)) in columns.iter().zip(&mut self.carries).enumerate() {
                let mask = self.masks[symbol as usize];
                let (sum, first) = bits.overflowing_add(bits & mask);
                let (sum, second) = sum.overflowing_add(u64::from(*carry));
                *carry = first | second;
                bits = sum | (bits & !mask);
                keep(column, block, bits);
            }
            *state = bits;
            for &symbol in rows {
                self.masks[symbol as usize] = 0;
            }
        }
    }
}

/// Steps that [`Lcs::length`] takes.
pub(crate) fn steps(a: &[u32], b: &[u32]) -> u64 {
    (a.len().max(b.len()).div_ceil(64) * a.len().min(b.len())) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition: a full table, and the walk back through it.
    fn by_table(a: &[u32], b: &[u32]) -> (u64, Vec<bool>) {
        let mut table = vec![vec![0u64; b.len() + 1]; a.len() + 1];
        for i in 1..=a.len() {
            for j in 1..=b.len() {
                table[i][j] = if a[i - 1] == b[j - 1] { table[i - 1][j - 1] + 1 } else { table[i - 1][j].max(table[i][j - 1]) };
            }
        }
        let (mut i, mut j) = (a.len(), b.len());
        let mut marks = vec![false; a.len()];
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                marks[i - 1] = true;
                (i, j) = (i - 1, j - 1);
            } else if table[i][j - 1] > table[i - 1][j] {
                j -= 1;
            } else {
                i -= 1;
            }
        }
        (table[a.len()][b.len()], marks)
    }

    proptest! {
        #[test]
        fn bits_agree_with_the_table(
            a in prop::collection::vec(0u32..5, 0..200),
            b in prop::collection::vec(0u32..5, 0..200),
        ) {
            let mut lcs = Lcs::new(5);
            let (length, marks) = by_table(&a, &b);
            prop_assert_eq!(lcs.length(&a, &b), length);
            let mut found = vec![false; a.len()];
            lcs.mark(&a, &b, &mut found);
            prop_assert_eq!(found, marks);
        }
    }

    #[test]
    fn a_walk_through_several_pieces_is_the_same_walk() {
        let noise = |seed: u32| move |i: u32| (i.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 20) % 50;
        let a: Vec<u32> = (0..6_000).map(noise(1)).collect();
        let b: Vec<u32> = (0..3_000).map(noise(977)).collect();
        assert!(KEPT / a.len().div_ceil(64) < b.len());
        let mut found = vec![false; a.len()];
        Lcs::new(50).mark(&a, &b, &mut found);
        assert!(found == by_table(&a, &b).1);
    }
}
