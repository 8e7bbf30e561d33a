//! LoRA of a group of clients.

use declora_core::{GroupedLora, LoraGradients};
use numpy::{Ix1, Ix2, Ix3, PyReadonlyArray, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::arrays::{Extent, all_apart, extent, input, output};
use crate::error::ConfigError;
use crate::threads::run;

/// The arrays that both passes read.
struct Group<'py> {
    x: PyReadonlyArray<'py, f32, Ix2>,
    a: PyReadonlyArray<'py, f32, Ix3>,
    b: PyReadonlyArray<'py, f32, Ix3>,
    counts: PyReadonlyArray<'py, u32, Ix1>,
    scaling: f32,
}

impl<'py> Group<'py> {
    fn new(
        x: &Bound<'py, PyAny>,
        a: &Bound<'py, PyAny>,
        b: &Bound<'py, PyAny>,
        counts: &Bound<'py, PyAny>,
        scaling: f32,
    ) -> PyResult<Self> {
        let (x, a, b) = (input("x", x)?, input("a", a)?, input("b", b)?);
        let group = Self { x, a, b, counts: input("counts", counts)?, scaling };
        group.fits().then_some(()).ok_or_else(|| {
            let [x, a, b] = [group.x.shape(), group.a.shape(), group.b.shape()];
            ConfigError::new_err(format!(
                "x {x:?}, a {a:?}, b {b:?} and {} counts do not fit; they must be [tokens, inputs], [clients, rank, inputs], \
                 [clients, outputs, rank] and one for each client.",
                group.counts.len()
            ))
        })?;
        Ok(group)
    }

    fn fits(&self) -> bool {
        let (&[clients, rank, inputs], &[others, _, ranks]) = (self.a.shape(), self.b.shape()) else {
            return false;
        };
        self.x.shape().get(1) == Some(&inputs)
            && rank == ranks
            && clients == others
            && clients == self.counts.len()
    }

    fn lora(&self) -> PyResult<GroupedLora<'_>> {
        Ok(GroupedLora {
            a: self.a.as_slice()?,
            b: self.b.as_slice()?,
            rank: self.a.shape()[1],
            inputs: self.a.shape()[2],
            outputs: self.b.shape()[1],
            counts: self.counts.as_slice()?,
            scaling: self.scaling,
        })
    }

    /// Shapes `[tokens, rank]` and `[tokens, outputs]`.
    fn shapes(&self) -> [[usize; 2]; 2] {
        let tokens = self.x.shape()[0];
        [[tokens, self.a.shape()[1]], [tokens, self.b.shape()[1]]]
    }

    fn read(&self) -> [Extent; 4] {
        [extent("x", &self.x), extent("a", &self.a), extent("b", &self.b), extent("counts", &self.counts)]
    }
}

/// Checks that an argument has the shape that the others call for.
fn shaped(name: &str, have: &[usize], need: &[usize]) -> PyResult<()> {
    (have == need).then_some(()).ok_or_else(|| {
        ConfigError::new_err(format!(
            "{name} has shape {have:?}, but beside x, a and b it must have {need:?}."
        ))
    })
}

#[pyfunction]
#[pyo3(signature = (x, a, b, counts, *, scaling, y, down, out))]
#[expect(clippy::too_many_arguments, reason = "keywords in Python")]
pub(crate) fn lora_forward(
    x: &Bound<'_, PyAny>,
    a: &Bound<'_, PyAny>,
    b: &Bound<'_, PyAny>,
    counts: &Bound<'_, PyAny>,
    scaling: f32,
    y: &Bound<'_, PyAny>,
    down: &Bound<'_, PyAny>,
    out: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let group = Group::new(x, a, b, counts, scaling)?;
    let y = input::<f32, Ix2>("y", y)?;
    let (mut down, mut out) = (output::<f32, Ix2>("down", down)?, output::<f32, Ix2>("out", out)?);
    let [narrow, wide] = group.shapes();
    shaped("y", y.shape(), &wide)?;
    shaped("down", down.shape(), &narrow)?;
    shaped("out", out.shape(), &wide)?;
    let read = [group.read().as_slice(), &[extent("y", &y)]].concat();
    all_apart(&read, &[extent("down", &down), extent("out", &out)])?;
    let py = y.py();
    let (lora, x, y) = (group.lora()?, group.x.as_slice()?, y.as_slice()?);
    let (down, out) = (down.as_slice_mut()?, out.as_slice_mut()?);
    run(py, || lora.forward(x, y, down, out))
}

#[pyfunction]
#[pyo3(signature = (x, a, b, counts, *, scaling, grad, down, grad_a, grad_b, grad_x))]
#[expect(clippy::too_many_arguments, reason = "keywords in Python")]
pub(crate) fn lora_backward(
    x: &Bound<'_, PyAny>,
    a: &Bound<'_, PyAny>,
    b: &Bound<'_, PyAny>,
    counts: &Bound<'_, PyAny>,
    scaling: f32,
    grad: &Bound<'_, PyAny>,
    down: &Bound<'_, PyAny>,
    grad_a: &Bound<'_, PyAny>,
    grad_b: &Bound<'_, PyAny>,
    grad_x: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let group = Group::new(x, a, b, counts, scaling)?;
    let (grad, down) = (input::<f32, Ix2>("grad", grad)?, input::<f32, Ix2>("down", down)?);
    let (mut to_a, mut to_b) = (output::<f32, Ix3>("grad_a", grad_a)?, output::<f32, Ix3>("grad_b", grad_b)?);
    let mut to_x = grad_x.map(|array| output::<f32, Ix2>("grad_x", array)).transpose()?;
    let [narrow, wide] = group.shapes();
    shaped("grad", grad.shape(), &wide)?;
    shaped("down", down.shape(), &narrow)?;
    shaped("grad_a", to_a.shape(), group.a.shape())?;
    shaped("grad_b", to_b.shape(), group.b.shape())?;
    to_x.as_ref().map_or(Ok(()), |array| shaped("grad_x", array.shape(), group.x.shape()))?;
    let mut written = vec![extent("grad_a", &to_a), extent("grad_b", &to_b)];
    written.extend(to_x.as_ref().map(|array| extent("grad_x", array)));
    let read = [group.read().as_slice(), &[extent("grad", &grad), extent("down", &down)]].concat();
    all_apart(&read, &written)?;
    let py = grad.py();
    let (lora, x, grad, down) = (group.lora()?, group.x.as_slice()?, grad.as_slice()?, down.as_slice()?);
    let to = LoraGradients {
        a: to_a.as_slice_mut()?,
        b: to_b.as_slice_mut()?,
        x: to_x.as_mut().map(|array| array.as_slice_mut()).transpose()?,
    };
    run(py, || lora.backward(grad, x, down, to))
}
