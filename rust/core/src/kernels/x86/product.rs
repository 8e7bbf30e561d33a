//! Products with vectors: a tile of the result has its sums in registers, one vector for each of its rows.

use std::arch::x86_64::*;
use std::array::from_fn;
use std::ops::Range;

use crate::kernels::Product;
use crate::scratch::Scratch;

/// Rows of a tile at most: as many sums as hide the latency of an addition, and with the rest fit into 16 registers.
const TALL: usize = 12;

/// Steps of k that are taken for all rows before the next ones.
const DEEP: usize = 256;
/// Columns that are computed for these steps before the next ones: so much of Q stays in the second-level cache.
const WIDE: usize = 256;
/// Rows of Q of so many columns are copied before they are used: their distances would make them meet in few places of
/// the caches.
const FAR: usize = 1024;
/// Distance of the copies, an odd number of cache lines.
const STRIDE: usize = WIDE + 16;

/// A part of a product: some steps of k for some columns.
struct Part {
    steps: Range<usize>,
    columns: Range<usize>,
    /// The numbers of Q, and how far its rows are from each other.
    q: *const f32,
    stride: usize,
}

macro_rules! product {
    ($name:ident: $vector:ident x $lanes:literal, $feature:literal, $zero:ident $set1:ident $mul:ident $fma:ident
     $load:ident $store:ident, $mask:ident $load_some:ident $store_some:ident) => {
        #[target_feature(enable = $feature)]
        pub(super) fn $name(mut product: Product<'_>) {
            /// Computes a part for M rows from row `m` on and a vector of columns from column `j` on, or what is left of
            /// them. Between the first step and the last, `out` holds the sums.
            ///
            /// # Safety
            /// The product fits, and has these.
            #[inline]
            #[target_feature(enable = $feature)]
            unsafe fn tile<const M: usize, const WHOLE: bool>(
                product: &mut Product<'_>,
                part: &Part,
                m: usize,
                j: usize,
            ) {
                let (p, columns, depth) = (product.p, product.columns, product.depth());
                let mask = $mask(part.columns.end - j);
                // SAFETY: the caller's promise; a partial vector is read and written under its mask.
                unsafe {
                    // A pointer for every four rows: from one alone, addresses would be a chain of additions.
                    let first = p.numbers.as_ptr().wrapping_add(m * p.row + part.steps.start * p.column);
                    let mut fours: [*const f32; TALL / 4] = from_fn(|i| first.wrapping_add(4 * i * p.row));
                    let mut q = part.q.wrapping_add(j - part.columns.start);
                    let out = product.out.as_mut_ptr().add(m * columns + j);
                    let mut sums = [$zero(); M];
                    if part.steps.start > 0 {
                        for i in 0..M {
                            let out = out.add(i * columns);
                            sums[i] = if WHOLE { $load(out) } else { $load_some(out, mask) };
                        }
                    }
                    for _ in part.steps.clone() {
                        let row = if WHOLE { $load(q) } else { $load_some(q, mask) };
                        for i in 0..M {
                            let p = fours[i / 4].add(i % 4 * p.row);
                            sums[i] = $fma($set1(*p), row, sums[i]);
                        }
                        for four in &mut fours[..M.div_ceil(4)] {
                            *four = four.wrapping_add(p.column);
                        }
                        q = q.wrapping_add(part.stride);
                    }
                    if part.steps.end == depth {
                        let scale = $set1(product.scale);
                        for i in 0..M {
                            sums[i] = if product.base.is_empty() {
                                $mul(scale, sums[i])
                            } else {
                                let base = product.base.as_ptr().add((m + i) * columns + j);
                                $fma(scale, sums[i], if WHOLE { $load(base) } else { $load_some(base, mask) })
                            };
                        }
                    }
                    for i in 0..M {
                        let out = out.add(i * columns);
                        if WHOLE { $store(out, sums[i]) } else { $store_some(out, mask, sums[i]) }
                    }
                }
            }

            /// Computes a part for M rows from row `m` on; returns the next row.
            ///
            /// # Safety
            /// The product fits, and has these.
            #[inline]
            #[target_feature(enable = $feature)]
            unsafe fn rows<const M: usize>(product: &mut Product<'_>, part: &Part, m: usize) -> usize {
                let columns = part.columns.clone();
                let whole = columns.end - columns.len() % $lanes;
                // SAFETY: the caller's promise, and the columns end with the last vector.
                unsafe {
                    for j in (columns.start..whole).step_by($lanes) {
                        tile::<M, true>(product, part, m, j);
                    }
                    if whole < columns.end {
                        tile::<M, false>(product, part, m, whole);
                    }
                }
                m + M
            }

            if !product.fits() {
                return;
            }
            parts(&mut product, |product, part| {
                let (mut m, count) = (0, product.rows());
                while m < count {
                    // SAFETY: the product fits, so many rows are left, and `parts` gives parts of it.
                    m = unsafe {
                        match count - m {
                            TALL.. => rows::<TALL>(product, part, m),
                            8.. => rows::<8>(product, part, m),
                            4.. => rows::<4>(product, part, m),
                            2.. => rows::<2>(product, part, m),
                            _ => rows::<1>(product, part, m),
                        }
                    }
                }
            });
        }
    };
}

/// Runs `compute` on every part of a product that fits, the steps of k in order.
fn parts(product: &mut Product<'_>, compute: impl Fn(&mut Product<'_>, &Part)) {
    let (q, columns, depth) = (product.q, product.columns, product.depth());
    let far = columns >= FAR;
    f32::scratch(if far { DEEP * STRIDE } else { 0 }, |copies| {
        for start in (0..depth.max(1)).step_by(DEEP) {
            let steps = start..depth.min(start + DEEP);
            for left in (0..columns).step_by(WIDE) {
                let across = left..columns.min(left + WIDE);
                for (copy, k) in copies.chunks_exact_mut(STRIDE).zip(steps.clone()) {
                    copy[..across.len()].copy_from_slice(&q[k * columns..][across.clone()]);
                }
                let (q, stride) = if far {
                    (copies.as_ptr(), STRIDE)
                } else {
                    (q.as_ptr().wrapping_add(start * columns + left), columns)
                };
                compute(product, &Part { steps: steps.clone(), columns: across, q, stride });
            }
        }
    });
}

product!(avx2: __m256 x 8, "avx2,fma", _mm256_setzero_ps _mm256_set1_ps _mm256_mul_ps _mm256_fmadd_ps
    _mm256_loadu_ps _mm256_storeu_ps, mask_of_8 _mm256_maskload_ps _mm256_maskstore_ps);
product!(avx512: __m512 x 16, "avx512f", _mm512_setzero_ps _mm512_set1_ps _mm512_mul_ps _mm512_fmadd_ps
    _mm512_loadu_ps _mm512_storeu_ps, mask_of_16 load_some store_some);

/// The first `lanes` of 8, or all of them.
#[inline]
#[target_feature(enable = "avx2")]
fn mask_of_8(lanes: usize) -> __m256i {
    _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes.min(8) as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
}

/// The first `lanes` of 16, or all of them.
#[inline]
fn mask_of_16(lanes: usize) -> __mmask16 {
    u16::MAX.checked_shr(16_u32.saturating_sub(lanes as u32)).unwrap_or(0)
}

/// As `_mm256_maskload_ps`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_some(from: *const f32, mask: __mmask16) -> __m512 {
    // SAFETY: the caller's promise of the numbers of the mask.
    unsafe { _mm512_maskz_loadu_ps(mask, from) }
}

/// As `_mm256_maskstore_ps`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store_some(to: *mut f32, mask: __mmask16, numbers: __m512) {
    // SAFETY: the caller's promise of the numbers of the mask.
    unsafe { _mm512_mask_storeu_ps(to, mask, numbers) }
}
