//! What is done between the model's matrix products, each in one pass over its numbers.
//!
//! candle's own operations are exact to more digits than scores need, one number at a time; these are vectorised by the compiler
//! for the processor at hand, and leave out the copies between them.

use candle_core::{CpuStorage, CustomOp1, InplaceOp1, InplaceOp2, Layout, Result, Shape, bail};
use pulp::Arch;

/// `x + bias` of each row, then the Gaussian error linear unit.
pub(crate) struct Gelu {
    pub(crate) bias: Vec<f32>,
}

impl InplaceOp1 for Gelu {
    fn name(&self) -> &'static str {
        "bias-gelu"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let numbers = numbers_mut(storage, layout)?;
        Arch::new().dispatch(|| {
            for row in numbers.chunks_exact_mut(self.bias.len()) {
                for (x, bias) in row.iter_mut().zip(&self.bias) {
                    *x = gelu(*x + bias);
                }
            }
        });
        Ok(())
    }
}

/// `x + bias + residual` of each row, then normalised to a mean and deviation.
pub(crate) struct AddNorm {
    pub(crate) bias: Vec<f32>,
    pub(crate) scale: Vec<f32>,
    pub(crate) shift: Vec<f32>,
    pub(crate) eps: f32,
}

impl InplaceOp2 for AddNorm {
    fn name(&self) -> &'static str {
        "bias-add-norm"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout, residual: &CpuStorage, like: &Layout) -> Result<()> {
        let (numbers, residual) = (numbers_mut(storage, layout)?, numbers(residual, like)?);
        let width = self.bias.len();
        Arch::new().dispatch(|| {
            for (row, residual) in numbers.chunks_exact_mut(width).zip(residual.chunks_exact(width)) {
                for ((x, residual), bias) in row.iter_mut().zip(residual).zip(&self.bias) {
                    *x += residual + bias;
                }
                let mean = sum(row, |x| x) / width as f32;
                let variance = sum(row, |x| (x - mean) * (x - mean)) / width as f32;
                let factor = 1.0 / (variance + self.eps).sqrt();
                for ((x, scale), shift) in row.iter_mut().zip(&self.scale).zip(&self.shift) {
                    *x = (*x - mean) * factor * scale + shift;
                }
            }
        });
        Ok(())
    }
}

/// Softmax of each row.
pub(crate) struct Softmax {
    pub(crate) width: usize,
}

impl InplaceOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let numbers = numbers_mut(storage, layout)?;
        Arch::new().dispatch(|| {
            for row in numbers.chunks_exact_mut(self.width) {
                let highest = highest(row);
                for x in row.iter_mut() {
                    *x = exp(*x - highest);
                }
                let factor = 1.0 / sum(row, |x| x);
                for x in row.iter_mut() {
                    *x *= factor;
                }
            }
        });
        Ok(())
    }
}

/// Takes rows of queries, keys and values of all heads apart: `[tokens, 3 * heads * size]`, with the bias added, to
/// `[3, text, head, token of the text, size]`, all in one dimension as texts differ in length.
pub(crate) struct SplitHeads<'a> {
    pub(crate) lengths: &'a [usize],
    pub(crate) size: usize,
    pub(crate) bias: &'a [f32],
}

impl CustomOp1 for SplitHeads<'_> {
    fn name(&self) -> &'static str {
        "split-heads"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let joined = numbers(storage, layout)?;
        let (row, width) = (self.bias.len(), self.bias.len() / 3);
        let mut split = Vec::with_capacity(joined.len());
        for part in 0..3 {
            let mut begin = 0;
            for &length in self.lengths {
                let text = &joined[begin * row..(begin + length) * row];
                for head in (part * width..(part + 1) * width).step_by(self.size) {
                    let bias = &self.bias[head..head + self.size];
                    for token in text.chunks_exact(row) {
                        split.extend(token[head..head + self.size].iter().zip(bias).map(|(x, bias)| x + bias));
                    }
                }
                begin += length;
            }
        }
        let shape = Shape::from(split.len());
        Ok((CpuStorage::F32(split), shape))
    }
}

/// Puts the heads of each token beside each other again: `[text, head, token of the text, size]` to `[tokens, heads * size]`.
pub(crate) struct MergeHeads<'a> {
    pub(crate) lengths: &'a [usize],
    pub(crate) size: usize,
    pub(crate) width: usize,
}

impl CustomOp1 for MergeHeads<'_> {
    fn name(&self) -> &'static str {
        "merge-heads"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let split = numbers(storage, layout)?;
        let mut joined = Vec::with_capacity(split.len());
        let mut begin = 0;
        for &length in self.lengths {
            let text = &split[begin * self.width..(begin + length) * self.width];
            for token in 0..length {
                for head in text.chunks_exact(length * self.size) {
                    joined.extend_from_slice(&head[token * self.size..(token + 1) * self.size]);
                }
            }
            begin += length;
        }
        let shape = Shape::from((begin, self.width));
        Ok((CpuStorage::F32(joined), shape))
    }
}

/// Scales each row to a length of one.
pub(crate) struct Normalise {
    pub(crate) width: usize,
}

impl InplaceOp1 for Normalise {
    fn name(&self) -> &'static str {
        "normalise"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let numbers = numbers_mut(storage, layout)?;
        Arch::new().dispatch(|| {
            for row in numbers.chunks_exact_mut(self.width) {
                let factor = 1.0 / sum(row, |x| x * x).sqrt();
                for x in row.iter_mut() {
                    *x *= factor;
                }
            }
        });
        Ok(())
    }
}

fn numbers<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let (CpuStorage::F32(numbers), Some((begin, end))) = (storage, layout.contiguous_offsets()) else {
        bail!("expected contiguous numbers of 32 bits");
    };
    Ok(&numbers[begin..end])
}

fn numbers_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    let (CpuStorage::F32(numbers), Some((begin, end))) = (storage, layout.contiguous_offsets()) else {
        bail!("expected contiguous numbers of 32 bits");
    };
    Ok(&mut numbers[begin..end])
}

/// The sum of `f` of each number.
#[inline(always)]
fn sum(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    fold(row, 0.0, |sum, x| sum + f(x), |one, other| one + other)
}

/// The highest number.
#[inline(always)]
fn highest(row: &[f32]) -> f32 {
    let higher = |one, other| if one > other { one } else { other };
    fold(row, f32::NEG_INFINITY, higher, higher)
}

/// Takes numbers in with `f`, in several lanes that `join` puts together: one lane the compiler could not vectorise.
#[inline(always)]
fn fold(row: &[f32], start: f32, f: impl Fn(f32, f32) -> f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    const LANES: usize = 32;
    let mut lanes = [start; LANES];
    let mut chunks = row.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = f(*lane, x);
        }
    }
    let rest = chunks.remainder().iter().fold(start, |so_far, &x| f(so_far, x));
    lanes.into_iter().fold(rest, join)
}

/// `e^x` to within 2e-7 of its size, for what is not above 88; below -87 it is next to nothing.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Adding this rounds to a whole number, which then is in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.max(-87.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    // The logarithm of two in two parts, for more digits than one has.
    let rest = x - whole * 0.693_359_4 + whole * 2.121_944_4e-4;
    // Minimax polynomial for e^rest (Cephes, expf).
    let power = 1.987_569_1e-4;
    let power = power * rest + 1.398_199_9e-3;
    let power = power * rest + 8.333_452e-3;
    let power = power * rest + 4.166_579_6e-2;
    let power = power * rest + 1.666_666_5e-1;
    let power = power * rest + 0.5;
    let power = power * rest * rest + rest + 1.0;
    power * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
}

/// `x * P(X <= x)` of the normal distribution, to within 3e-7 of `x`.
#[inline(always)]
fn gelu(x: f32) -> f32 {
    // The error function by Abramowitz and Stegun, 7.1.26.
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let series = ((((1.061_405_4 * t - 1.453_152) * t + 1.421_413_7) * t - 0.284_496_74) * t + 0.254_829_6) * t;
    let tail = 0.5 * series * exp(-z * z);
    x * if x < 0.0 { tail } else { 1.0 - tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers_between(low: f32, high: f32) -> impl Iterator<Item = f32> {
        (0..=100_000).map(move |step| low + (high - low) * step as f32 / 100_000.0)
    }

    #[test]
    fn exp_is_the_exponential_function() {
        for x in numbers_between(-87.0, 88.0) {
            let expected = f64::from(x).exp();
            assert!((f64::from(exp(x)) / expected - 1.0).abs() < 2e-7, "{x}: {} {expected}", exp(x));
        }
        assert!(exp(-1000.0) < 1e-37);
    }

    #[test]
    fn gelu_is_that_of_the_error_function() {
        // From tables of the normal distribution.
        for (x, probability) in [(0.0, 0.5), (0.5, 0.691_462_46), (1.0, 0.841_344_8), (2.0, 0.977_249_87), (3.0, 0.998_650_1)] {
            assert!((gelu(x) - x * probability).abs() < 3e-7 * x.max(1.0), "{x}");
            assert!((gelu(-x) + x * (1.0 - probability)).abs() < 3e-7 * x.max(1.0), "-{x}");
        }
        assert!(gelu(50.0) == 50.0 && gelu(-50.0).abs() < 1e-37);
    }

    #[test]
    fn every_number_of_a_row_counts() {
        let row: Vec<f32> = (1..=100).map(|x| x as f32).collect();
        assert_eq!(sum(&row, |x| 2.0 * x), 10_100.0);
        assert_eq!((highest(&row), highest(&row[..7])), (100.0, 7.0));
    }
}
