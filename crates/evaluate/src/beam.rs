//! Edit distance of words within a beam around the diagonal, with the alignment it comes from, as sacrebleu's TER has it.

use std::ops::Range;

/// Half the beam's width, where the texts' lengths do not call for more.
const BEAM: usize = 25;
/// The distance of cells outside the beam.
const FAR: u32 = u32::MAX / 2;

/// The distances between a candidate, whose words may change places but not number, and a reference.
pub(crate) struct Beam<'a> {
    reference: &'a [u32],
    /// For each row, a word of the candidate, which columns are within the beam. Row and column 0 are before the first word.
    bands: Vec<Range<usize>>,
    /// Where each row's cells begin in `cells`.
    offsets: Vec<usize>,
    /// The distances for the present candidate.
    cells: Vec<u32>,
    /// The present candidate.
    candidate: Vec<u32>,
    /// The rows before and at hand of another candidate that is being tried.
    trial: [Vec<u32>; 2],
}

/// How the words of two texts correspond.
pub(crate) struct Alignment {
    /// For each word of the reference, the one after the candidate's last word up to it: 0 if there is none.
    pub(crate) after: Vec<usize>,
    /// Whether each word of the reference is wrong or missing in the candidate.
    pub(crate) reference_errors: Vec<bool>,
    /// Whether each word of the candidate is wrong or superfluous.
    pub(crate) candidate_errors: Vec<bool>,
}

impl<'a> Beam<'a> {
    pub(crate) fn new(candidate: &[u32], reference: &'a [u32]) -> Beam<'a> {
        let bands = bands(candidate.len(), reference.len());
        let mut offsets = Vec::with_capacity(bands.len());
        let mut size = 0;
        for band in &bands {
            offsets.push(size);
            size += band.len();
        }
        let mut beam = Beam { reference, bands, offsets, cells: vec![FAR; size], candidate: Vec::new(), trial: [Vec::new(), Vec::new()] };
        beam.cells[..=reference.len()].iter_mut().zip(0..).for_each(|(cell, column)| *cell = column);
        beam.set(candidate.to_vec());
        beam
    }

    pub(crate) fn candidate(&self) -> &[u32] {
        &self.candidate
    }

    /// The distance of the present candidate.
    pub(crate) fn distance(&self) -> u32 {
        self.cells.last().copied().unwrap_or(0)
    }

    /// Makes `candidate` the present one.
    pub(crate) fn set(&mut self, candidate: Vec<u32>) {
        for row in self.unchanged(&candidate) + 1..self.bands.len() {
            let (done, rest) = self.cells.split_at_mut(self.offsets[row]);
            let before = (&self.bands[row - 1], &done[self.offsets[row - 1]..]);
            let band = &self.bands[row];
            fill(before, (band, &mut rest[..band.len()]), candidate[row - 1], self.reference);
        }
        self.candidate = candidate;
    }

    /// The distance of `candidate`, or None where it is above `limit`.
    pub(crate) fn distance_within(&mut self, candidate: &[u32], limit: u32) -> Option<u32> {
        let first = self.unchanged(candidate) + 1;
        let [before, at] = &mut self.trial;
        before.clear();
        before.extend_from_slice(&self.cells[self.offsets[first - 1]..][..self.bands[first - 1].len()]);
        for row in first..self.bands.len() {
            let band = &self.bands[row];
            at.resize(band.len(), FAR);
            // Distances do not fall from row to row.
            if fill((&self.bands[row - 1], before), (band, at), candidate[row - 1], self.reference) > limit {
                return None;
            }
            std::mem::swap(before, at);
        }
        before.last().copied().filter(|&distance| distance <= limit)
    }

    /// How many words `candidate` begins with like the present one.
    fn unchanged(&self, candidate: &[u32]) -> usize {
        self.candidate.iter().zip(candidate).take_while(|(a, b)| a == b).count()
    }

    fn cell(&self, row: usize, column: usize) -> u32 {
        let band = &self.bands[row];
        if band.contains(&column) { self.cells[self.offsets[row] + column - band.start] } else { FAR }
    }

    /// How the present candidate corresponds to the reference. Of several ways it is the one that prefers, from the end,
    /// keeping or replacing a word, then dropping one of the candidate's, then adding one of the reference's.
    pub(crate) fn alignment(&self) -> Alignment {
        let (mut row, mut column) = (self.candidate.len(), self.reference.len());
        let mut alignment = Alignment { after: vec![0; column], reference_errors: vec![true; column], candidate_errors: vec![true; row] };
        while column > 0 {
            let here = self.cell(row, column);
            let differs = row > 0 && self.candidate[row - 1] != self.reference[column - 1];
            if row > 0 && self.cell(row - 1, column - 1) + u32::from(differs) == here {
                alignment.after[column - 1] = row;
                alignment.reference_errors[column - 1] = differs;
                alignment.candidate_errors[row - 1] = differs;
                row -= 1;
                column -= 1;
            } else if row > 0 && self.cell(row - 1, column) + 1 == here {
                row -= 1;
            } else {
                alignment.after[column - 1] = row;
                column -= 1;
            }
        }
        alignment
    }
}

/// The columns of each row that are within the beam.
fn bands(candidate: usize, reference: usize) -> Vec<Range<usize>> {
    let ratio = if candidate > 0 { reference as f64 / candidate as f64 } else { 1.0 };
    let half = if (BEAM as f64) < ratio / 2.0 { (ratio / 2.0 + BEAM as f64).ceil() as usize } else { BEAM };
    let rows = (1..=candidate).map(|row| {
        let diagonal = (row as f64 * ratio).floor() as usize;
        let end = if row == candidate { reference + 1 } else { (diagonal + half).min(reference + 1) };
        diagonal.saturating_sub(half)..end
    });
    std::iter::once(0..reference + 1).chain(rows).collect()
}

/// Fills one row from the row before and returns its lowest distance.
fn fill(before: (&Range<usize>, &[u32]), at: (&Range<usize>, &mut [u32]), word: u32, reference: &[u32]) -> u32 {
    let ((from, above), (band, cells)) = (before, at);
    let above = &above[..from.len()];
    // Bands only move on, so a row starts at or after the one before.
    let shift = band.start - from.start;
    let mut lowest = FAR;
    let (mut left, mut diagonal) = (FAR, if shift > 0 { above.get(shift - 1).copied().unwrap_or(FAR) } else { FAR });
    for (offset, cell) in cells.iter_mut().enumerate() {
        let up = above.get(shift + offset).copied().unwrap_or(FAR);
        let column = band.start + offset;
        let replaced = if column > 0 { diagonal + u32::from(reference[column - 1] != word) } else { FAR };
        let distance = replaced.min(up + 1).min(left + 1).min(FAR);
        *cell = distance;
        lowest = lowest.min(distance);
        (left, diagonal) = (distance, up);
    }
    lowest
}
