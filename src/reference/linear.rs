//! Matrix product, bias, sums and products element by element.

/// A row-major matrix, perhaps read as its transpose.
pub(super) struct Matrix<'a> {
    data: &'a [f64],
    stored_columns: usize,
    transposed: bool,
}

impl<'a> Matrix<'a> {
    /// `data` in rows of `stored_columns` elements.
    pub fn new(data: &'a [f64], stored_columns: usize, transposed: bool) -> Self {
        Matrix { data, stored_columns, transposed }
    }

    fn rows(&self) -> usize {
        if self.transposed { self.stored_columns } else { self.data.len() / self.stored_columns }
    }

    fn columns(&self) -> usize {
        if self.transposed { self.data.len() / self.stored_columns } else { self.stored_columns }
    }

    fn at(&self, row: usize, column: usize) -> f64 {
        let (row, column) = if self.transposed { (column, row) } else { (row, column) };
        self.data[row * self.stored_columns + column]
    }
}

/// `y[i,j] = sum over k of a[i,k] * b[k,j]`, k ascending.
pub(super) fn matmul(a: &Matrix, b: &Matrix, y: &mut [f64]) {
    let columns = b.columns();
    for row in 0..a.rows() {
        for column in 0..columns {
            y[row * columns + column] = (0..a.columns()).map(|k| a.at(row, k) * b.at(k, column)).sum();
        }
    }
}

/// `y[.., c] = x[.., c] + bias[c]`.
pub(super) fn bias_add(x: &[f64], bias: &[f64], y: &mut [f64]) {
    for (index, (y, x)) in y.iter_mut().zip(x).enumerate() {
        *y = x + bias[index % bias.len()];
    }
}

/// `dbias[c] = sum over all else of dy[.., c]`.
pub(super) fn bias_grad(dy: &[f64], dbias: &mut [f64]) {
    dbias.fill(0.0);
    let channels = dbias.len();
    for (index, dy) in dy.iter().enumerate() {
        dbias[index % channels] += dy;
    }
}

pub(super) fn add(a: &[f64], b: &[f64], y: &mut [f64]) {
    for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
        *y = a + b;
    }
}

pub(super) fn mul(a: &[f64], b: &[f64], y: &mut [f64]) {
    for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
        *y = a * b;
    }
}

pub(super) fn scale(factor: f64, x: &[f64], y: &mut [f64]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = factor * x;
    }
}

/// `dx = 1 / elements`: of the mean over all elements in use.
pub(super) fn mean_grad(dx: &mut [f64]) {
    let elements = dx.len() as f64;
    dx.fill(1.0 / elements);
}
