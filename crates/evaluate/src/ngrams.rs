//! Counting the n-grams that two texts share, for all orders at once.
//!
//! For every position the next `ORDER` symbols are packed into one integer, the first symbol in the highest bits, and
//! the integers are sorted. Equal n-grams of any order up to `ORDER` then lie side by side, so one walk over two sorted
//! lists counts them all. No hash table, hence nothing to collide: O(n log n) whatever the text.

use std::ops::Range;

/// An integer that holds the `ORDER` symbols from one position on; 0 stands for "past the end".
pub(crate) trait Key: Copy + Ord + Default {
    const BITS: u32;
    /// Puts `symbol` before the others, whose last falls out.
    fn prepend<const ORDER: usize>(self, symbol: u32) -> Self;
    /// How many symbols two different keys share before they differ.
    fn shared<const ORDER: usize>(self, other: Self) -> usize;
    /// How many symbols there are before the end of the text.
    fn len<const ORDER: usize>(self) -> usize;
}

/// Bits for a symbol where `order` of them share `bits`.
const fn width(bits: u32, order: usize) -> u32 {
    let width = bits / order as u32;
    if width > 32 { 32 } else { width }
}

macro_rules! key {
    ($($integer:ty),*) => { $(
        impl Key for $integer {
            const BITS: u32 = <$integer>::BITS;

            fn prepend<const ORDER: usize>(self, symbol: u32) -> Self {
                let width = width(Self::BITS, ORDER);
                let used = Self::MAX << (Self::BITS - width * ORDER as u32);
                ((self >> width) | (Self::from(symbol) + 1) << (Self::BITS - width)) & used
            }

            fn shared<const ORDER: usize>(self, other: Self) -> usize {
                ((self ^ other).leading_zeros() / width(Self::BITS, ORDER)) as usize
            }

            fn len<const ORDER: usize>(self) -> usize {
                let width = width(Self::BITS, ORDER);
                let unused = Self::BITS - width * ORDER as u32;
                ORDER - ((self >> unused).trailing_zeros() / width).min(ORDER as u32) as usize
            }
        }
    )* };
}
key!(u64, u128);

/// Whether symbols below `symbols` fit `ORDER` to a key.
pub(crate) fn fits<K: Key, const ORDER: usize>(symbols: usize) -> bool {
    (symbols as u64) < (1 << width(K::BITS, ORDER)) - 1
}

/// The n-grams of one text, of every order up to `ORDER`, sorted.
pub(crate) struct Grams<K, const ORDER: usize> {
    keys: Vec<K>,
}

impl<K: Key, const ORDER: usize> Grams<K, ORDER> {
    /// Symbols must be below a number that [`fits`].
    pub(crate) fn new(symbols: &[u32]) -> Grams<K, ORDER> {
        let mut key = K::default();
        let mut keys: Vec<K> = symbols
            .iter()
            .rev()
            .map(|&symbol| {
                key = key.prepend::<ORDER>(symbol);
                key
            })
            .collect();
        keys.sort_unstable();
        Grams { keys }
    }

    /// How many symbols the text has.
    pub(crate) fn symbols(&self) -> usize {
        self.keys.len()
    }

    /// How many n-grams of order `index + 1` the text has.
    pub(crate) fn total(&self, index: usize) -> u64 {
        self.keys.len().saturating_sub(index) as u64
    }

    /// For each n-gram in both texts, tells `found` the order less one, a number below [`Grams::symbols`] that stands for the
    /// n-gram among those of its order in `self`, and the smaller of its two counts.
    pub(crate) fn shared(&self, other: &Self, mut found: impl FnMut(usize, usize, u64)) {
        let (ours, theirs) = (&self.keys, &other.keys);
        let (Some(&first), Some(&second)) = (ours.first(), theirs.first()) else { return };
        let (mut i, mut j) = (0, 0);
        let mut current = first.min(second);
        let mut starts = [(0, 0); ORDER];
        loop {
            i += run(&ours[i..], current);
            j += run(&theirs[j..], current);
            let next = match (ours.get(i), theirs.get(j)) {
                (Some(&a), Some(&b)) => Some(a.min(b)),
                (Some(&one), None) | (None, Some(&one)) => Some(one),
                (None, None) => None,
            };
            let kept = next.map_or(0, |next| current.shared::<ORDER>(next));
            for order in ended(kept, current.len::<ORDER>()) {
                let (a, b) = starts[order];
                let count = (i - a).min(j - b);
                if count > 0 {
                    found(order, a, count as u64);
                }
            }
            starts[kept.min(ORDER)..].fill((i, j));
            match next {
                Some(next) => current = next,
                None => return,
            }
        }
    }

    /// For every order, how many n-grams the two texts share.
    pub(crate) fn matched(&self, other: &Self) -> [u64; ORDER] {
        let mut matched = [0; ORDER];
        self.shared(other, |order, _, count| matched[order] += count);
        matched
    }
}

fn run<K: Key>(keys: &[K], key: K) -> usize {
    keys.iter().take_while(|&&k| k == key).count()
}

/// The orders (less one) whose n-gram ends between two keys: those the next key does not share, as far as the text goes.
fn ended(kept: usize, len: usize) -> Range<usize> {
    kept.min(len)..len
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn counted(symbols: &[u32], order: usize) -> BTreeMap<&[u32], u64> {
        let mut counts = BTreeMap::new();
        for gram in symbols.windows(order) {
            *counts.entry(gram).or_default() += 1;
        }
        counts
    }

    fn expected(a: &[u32], b: &[u32], order: usize) -> u64 {
        let theirs = counted(b, order);
        counted(a, order).iter().map(|(gram, &count)| count.min(theirs.get(gram).copied().unwrap_or(0))).sum()
    }

    proptest! {
        #[test]
        fn shared_grams_are_those_counted_one_by_one(
            a in prop::collection::vec(0u32..3, 0..40),
            b in prop::collection::vec(0u32..3, 0..40),
        ) {
            let narrow = Grams::<u64, 6>::new(&a).matched(&Grams::new(&b));
            let wide = Grams::<u128, 6>::new(&a).matched(&Grams::new(&b));
            let single = Grams::<u64, 1>::new(&a).matched(&Grams::new(&b));
            prop_assert_eq!(narrow, wide);
            prop_assert_eq!(narrow, std::array::from_fn(|index| expected(&a, &b, index + 1)));
            prop_assert_eq!(narrow[0], single[0]);
        }
    }

    #[test]
    fn the_largest_symbol_that_fits_does_not_spill() {
        assert!(fits::<u64, 6>(1022) && !fits::<u64, 6>(1023) && fits::<u128, 6>(0x11_0000));
        let grams = Grams::<u64, 6>::new(&[1021, 1021, 0]);
        assert_eq!(grams.matched(&Grams::new(&[1021, 0])), [2, 1, 0, 0, 0, 0]);
        assert_eq!((grams.symbols(), grams.total(0), grams.total(2), grams.total(3)), (3, 3, 1, 0));
    }
}
