//! LoRA of a group: each number is one chain of fused multiply-adds, at every level and on any number of threads.

use declora_core::{Error, GroupedLora, Level, LoraGradients, with_level};
use proptest::prelude::*;
use rayon::ThreadPoolBuilder;

use crate::cases::cases;
use crate::naive::{bits, values};

/// What a group is made of: clients' tokens, rank, inputs, outputs.
#[derive(Debug, Clone)]
struct Shape {
    counts: Vec<u32>,
    rank: usize,
    inputs: usize,
    outputs: usize,
}

impl Shape {
    fn of(counts: &[u32], rank: usize, inputs: usize, outputs: usize) -> Self {
        Self { counts: counts.to_vec(), rank, inputs, outputs }
    }

    fn tokens(&self) -> usize {
        self.counts.iter().map(|&count| count as usize).sum()
    }
}

/// Inputs, and what is computed of them.
struct Case {
    shape: Shape,
    a: Vec<f32>,
    b: Vec<f32>,
    x: Vec<f32>,
    y: Vec<f32>,
    grad: Vec<f32>,
}

const SCALING: f32 = 1.7;

impl Case {
    fn new(shape: &Shape) -> Self {
        let Shape { counts, rank, inputs, outputs } = shape;
        let (clients, tokens) = (counts.len(), shape.tokens());
        Self {
            shape: shape.clone(),
            a: values(clients * rank * inputs, 1),
            b: values(clients * outputs * rank, 2),
            x: values(tokens * inputs, 3),
            y: values(tokens * outputs, 4),
            grad: values(tokens * outputs, 5),
        }
    }

    fn lora(&self) -> GroupedLora<'_> {
        let Shape { counts, rank, inputs, outputs } = &self.shape;
        let (rank, inputs, outputs) = (*rank, *inputs, *outputs);
        GroupedLora { a: &self.a, b: &self.b, rank, inputs, outputs, counts, scaling: SCALING }
    }

    /// `down`, `out`, and the gradients of A, B and x.
    fn computed(&self) -> [Vec<f32>; 5] {
        let tokens = self.shape.tokens();
        let (mut down, mut out) = (vec![7.0; tokens * self.shape.rank], vec![7.0; self.y.len()]);
        self.lora().forward(&self.x, &self.y, &mut down, &mut out).unwrap();
        let (mut a, mut b) = (vec![7.0; self.a.len()], vec![7.0; self.b.len()]);
        let mut x = vec![7.0; self.x.len()];
        let to = LoraGradients { a: &mut a, b: &mut b, x: Some(&mut x) };
        self.lora().backward(&self.grad, &self.x, &down, to).unwrap();
        [down, out, a, b, x]
    }

    /// The same by the definition: `product(m, n, depth, P, Q)` is `[m, n]`, its sums in order of k.
    fn expected(&self) -> [Vec<f32>; 5] {
        let Shape { counts, rank, inputs, outputs } = &self.shape;
        let (rank, inputs, outputs) = (*rank, *inputs, *outputs);
        let mut found: [Vec<f32>; 5] = Default::default();
        let mut first = 0;
        for (c, &count) in counts.iter().enumerate() {
            let count = count as usize;
            let a = &self.a[c * rank * inputs..][..rank * inputs];
            let b = &self.b[c * outputs * rank..][..outputs * rank];
            let x = &self.x[first * inputs..][..count * inputs];
            let y = &self.y[first * outputs..][..count * outputs];
            let grad = &self.grad[first * outputs..][..count * outputs];
            let down = product(count, rank, inputs, |t, k| x[t * inputs + k], |k, r| a[r * inputs + k]);
            let up = product(count, outputs, rank, |t, k| down[t * rank + k], |k, o| b[o * rank + k]);
            let own = product(count, rank, outputs, |t, k| grad[t * outputs + k], |k, r| b[k * rank + r]);
            let own: Vec<f32> = own.iter().map(|own| SCALING * own).collect();
            let grad_a = product(rank, inputs, count, |r, k| own[k * rank + r], |k, i| x[k * inputs + i]);
            let grad_b =
                product(outputs, rank, count, |o, k| grad[k * outputs + o], |k, r| down[k * rank + r]);
            let grad_x = product(count, inputs, rank, |t, k| own[t * rank + k], |k, i| a[k * inputs + i]);
            found[1].extend(up.iter().zip(y).map(|(up, y)| SCALING.mul_add(*up, *y)));
            found[0].extend(down);
            found[2].extend(grad_a);
            found[3].extend(grad_b.iter().map(|sum| SCALING * sum));
            found[4].extend(grad_x);
            first += count;
        }
        found
    }
}

fn product(
    rows: usize,
    columns: usize,
    depth: usize,
    p: impl Fn(usize, usize) -> f32,
    q: impl Fn(usize, usize) -> f32,
) -> Vec<f32> {
    let number = |m, n| (0..depth).fold(0.0_f32, |sum, k| p(m, k).mul_add(q(k, n), sum));
    (0..rows).flat_map(|m| (0..columns).map(move |n| (m, n))).map(|(m, n)| number(m, n)).collect()
}

fn assert_computed(shape: &Shape) {
    let case = Case::new(shape);
    let expected = case.expected().map(|part| bits(&part));
    for &level in Level::available() {
        let found = with_level(level, || case.computed()).map(|part| bits(&part));
        assert!(found == expected, "{} differs: {shape:?}", level.name());
    }
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn each_number_is_one_chain_at_every_level(
        counts in prop::collection::vec(0_u32..30, 0..4), rank in 1_usize..19, inputs in 1_usize..40,
        outputs in 1_usize..40,
    ) {
        assert_computed(&Shape { counts, rank, inputs, outputs });
    }
}

#[test]
fn sizes_beyond_one_part_are_the_same_at_every_level() {
    // More inputs than steps or columns of a part; more tokens than steps; columns that are copied first; both.
    assert_computed(&Shape::of(&[3, 2], 2, 700, 300));
    assert_computed(&Shape::of(&[300], 3, 5, 20));
    assert_computed(&Shape::of(&[15], 2, 9, 1030));
    assert_computed(&Shape::of(&[260], 1, 1030, 3));
}

#[test]
fn sizes_of_zero_are_computed() {
    for (rank, inputs, outputs) in [(0, 3, 4), (2, 0, 4), (2, 3, 0), (0, 0, 0)] {
        assert_computed(&Shape::of(&[2, 0, 1], rank, inputs, outputs));
    }
    assert_computed(&Shape::of(&[], 2, 3, 4));
    assert_computed(&Shape::of(&[0, 0], 2, 3, 4));
}

#[test]
fn the_number_of_threads_does_not_show() {
    // Enough for several threads: 17 to 34 million multiply-adds in each pass, by one client or by three.
    for counts in [vec![700], vec![300, 1, 399]] {
        let case = Case::new(&Shape { counts, rank: 48, inputs: 256, outputs: 256 });
        let [one, two, five] = [1, 2, 5].map(|n| {
            let pool = ThreadPoolBuilder::new().num_threads(n).build().unwrap();
            pool.install(|| case.computed().map(|part| bits(&part)))
        });
        assert!(one == two && two == five);
    }
}

#[test]
fn gradients_are_those_of_the_sum_of_squares() {
    // f(A, B, x) = |out|^2 / 2 has the gradient `out` at `out`: compared with central differences in f64.
    let shape = Shape::of(&[3, 2], 2, 5, 4);
    let case = Case::new(&shape);
    let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
    let value = |a: &[f64], b: &[f64], x: &[f64]| {
        let mut total = 0.0;
        for t in 0..5 {
            let c = usize::from(t >= 3);
            for o in 0..4 {
                let mut out = f64::from(case.y[t * 4 + o]);
                for r in 0..2 {
                    let down: f64 = (0..5).map(|i| a[(c * 2 + r) * 5 + i] * x[t * 5 + i]).sum();
                    out += f64::from(SCALING) * b[(c * 4 + o) * 2 + r] * down;
                }
                total += out * out / 2.0;
            }
        }
        total
    };
    let [down, out, ..] = case.computed();
    let (mut a, mut b, mut x) = (vec![0.0; 20], vec![0.0; 16], vec![0.0; 25]);
    let to = LoraGradients { a: &mut a, b: &mut b, x: Some(&mut x) };
    case.lora().backward(&out, &case.x, &down, to).unwrap();
    let inputs = [wide(&case.a), wide(&case.b), wide(&case.x)];
    for (which, found) in [a, b, x].iter().enumerate() {
        for (at, &found) in found.iter().enumerate() {
            let moved = |step: f64| {
                let mut inputs = inputs.clone();
                inputs[which][at] += step;
                value(&inputs[0], &inputs[1], &inputs[2])
            };
            // A step of 2^-10 errs by its square times a third derivative; f32 by 2^-24 of terms below 1000.
            let slope = (moved(1.0 / 1024.0) - moved(-1.0 / 1024.0)) * 512.0;
            assert!(
                (slope - f64::from(found)).abs() < 1e-3 * slope.abs().max(1.0),
                "{which} {at}: {found} {slope}"
            );
        }
    }
}

#[test]
fn a_client_computes_the_same_alone() {
    let together = Case::new(&Shape::of(&[5, 17, 2], 4, 30, 20));
    let alone = Case {
        shape: Shape::of(&[17], 4, 30, 20),
        a: together.a[120..240].to_vec(),
        b: together.b[80..160].to_vec(),
        x: together.x[150..660].to_vec(),
        y: together.y[100..440].to_vec(),
        grad: together.grad[100..440].to_vec(),
    };
    let ([down, out, a, b, x], own) = (together.computed(), alone.computed());
    assert_eq!(own[0], down[20..88]);
    assert_eq!(own[1], out[100..440]);
    assert_eq!(own[2], a[120..240]);
    assert_eq!(own[3], b[80..160]);
    assert_eq!(own[4], x[150..660]);
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let case = Case::new(&Shape::of(&[2, 1], 2, 3, 4));
    let (mut down, mut out) = (vec![0.0; 6], vec![0.0; 12]);
    let lora = case.lora();
    let field = |error| match error {
        Error::Length { field, .. } => field,
        other => panic!("{other}"),
    };
    let forward = |lora: GroupedLora<'_>, x: &[f32], y: &[f32], down: &mut [f32], out: &mut [f32]| {
        field(lora.forward(x, y, down, out).unwrap_err())
    };
    let (x, y) = (&case.x[..], &case.y[..]);
    assert_eq!(forward(GroupedLora { rank: 3, ..lora }, x, y, &mut down, &mut out), "a");
    assert_eq!(forward(GroupedLora { outputs: 5, ..lora }, x, y, &mut down, &mut out), "b");
    assert_eq!(forward(GroupedLora { counts: &[2, 2], ..lora }, x, y, &mut down, &mut out), "x");
    assert_eq!(forward(GroupedLora { counts: &[3], ..lora }, x, y, &mut down, &mut out), "a");
    assert_eq!(forward(lora, &x[1..], y, &mut down, &mut out), "x");
    assert_eq!(forward(lora, x, &y[1..], &mut down, &mut out), "y");
    assert_eq!(forward(lora, x, y, &mut down[1..], &mut out), "down");
    assert_eq!(forward(lora, x, y, &mut down, &mut out[1..]), "out");
    let huge = GroupedLora { rank: usize::MAX, inputs: 2, counts: &[u32::MAX; 3], a: &[], b: &[], ..lora };
    assert_eq!(forward(huge, &[], &[], &mut [], &mut []), "a");

    let (mut a, mut b, mut to_x) = (vec![0.0; 12], vec![0.0; 16], vec![0.0; 9]);
    let mut backward = |grad: &[f32], down: &[f32], cut: [usize; 3]| {
        let to = LoraGradients { a: &mut a[cut[0]..], b: &mut b[cut[1]..], x: Some(&mut to_x[cut[2]..]) };
        field(lora.backward(grad, x, down, to).unwrap_err())
    };
    assert_eq!(backward(&y[1..], &down, [0; 3]), "grad");
    assert_eq!(backward(y, &down[1..], [0; 3]), "down");
    assert_eq!(backward(y, &down, [1, 0, 0]), "grad_a");
    assert_eq!(backward(y, &down, [0, 1, 0]), "grad_b");
    assert_eq!(backward(y, &down, [0, 0, 1]), "grad_x");
}
