//! Matrix multiplication and bias.

/// A row-major matrix or its transpose.
pub(super) struct Matrix<'a> {
    data: &'a [f64],
    stored_columns: usize,
    transposed: bool,
}

impl<'a> Matrix<'a> {
    /// A matrix stored in rows of `stored_columns` elements.
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

/// `y[i,j] = sum over k of a[i,k] * b[k,j]`, in ascending k.
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

/// `dbias[c] = sum of dy[.., c]` over all other axes.
pub(super) fn bias_grad(dy: &[f64], dbias: &mut [f64]) {
    dbias.fill(0.0);
    let channels = dbias.len();
    for (index, dy) in dy.iter().enumerate() {
        dbias[index % channels] += dy;
    }
}
