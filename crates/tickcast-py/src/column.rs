//! Columns as read-only Python buffers: NumPy views them without copying.

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::{CStr, c_int, c_void};
use std::sync::Arc;

/// Something that owns columns and can show one of them.
pub trait Columns: Send + Sync + 'static {
    /// Returns the bytes, the item size and the `struct` format of a column.
    fn column(&self, which: u8) -> (&[u8], usize, &'static CStr);
}

/// One read-only column; keeps its owner alive.
#[pyclass(frozen, module = "tickcast._core")]
pub struct Column {
    owner: Arc<dyn Columns>,
    which: u8,
}

impl Column {
    /// Returns column `which` of `owner`.
    pub fn new(owner: Arc<dyn Columns>, which: u8) -> Self {
        Column { owner, which }
    }
}

#[pymethods]
impl Column {
    fn __len__(&self) -> usize {
        let (bytes, size, _) = self.owner.column(self.which);
        bytes.len() / size
    }

    // SAFETY: called by the interpreter with a view to fill. Shape and stride are allocated here and freed in
    // `__releasebuffer__`; the bytes belong to the owner, which the view keeps alive through `obj`, and nobody
    // writes to them.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("view is null"));
        }
        if flags & ffi::PyBUF_WRITABLE == ffi::PyBUF_WRITABLE {
            return Err(PyBufferError::new_err("columns are read-only"));
        }
        let (bytes, size, format) = slf.get().owner.column(slf.get().which);
        let (pointer, length) = (bytes.as_ptr(), bytes.len());
        let shape = Box::into_raw(Box::new([(length / size) as isize, size as isize])).cast::<isize>();
        // SAFETY: `view` was checked; see above for the lifetimes of what is put in.
        unsafe {
            (*view).buf = pointer.cast_mut().cast::<c_void>();
            (*view).len = length as isize;
            (*view).readonly = 1;
            (*view).itemsize = size as isize;
            (*view).format = if flags & ffi::PyBUF_FORMAT == ffi::PyBUF_FORMAT {
                format.as_ptr().cast_mut()
            } else {
                std::ptr::null_mut()
            };
            (*view).ndim = 1;
            (*view).shape = if flags & ffi::PyBUF_ND == ffi::PyBUF_ND { shape } else { std::ptr::null_mut() };
            (*view).strides =
                if flags & ffi::PyBUF_STRIDES == ffi::PyBUF_STRIDES { shape.add(1) } else { std::ptr::null_mut() };
            (*view).suboffsets = std::ptr::null_mut();
            (*view).internal = shape.cast::<c_void>();
            (*view).obj = slf.into_ptr();
        }
        Ok(())
    }

    // SAFETY: called once for each view filled above, whose `internal` is the box made there.
    unsafe fn __releasebuffer__(&self, view: *mut ffi::Py_buffer) {
        // SAFETY: see above.
        unsafe { drop(Box::from_raw((*view).internal.cast::<[isize; 2]>())) }
    }
}

/// Returns the bytes of a slice of plain numbers.
pub fn bytes_of<T: Plain>(values: &[T]) -> &[u8] {
    // SAFETY: `Plain` types have no padding and any byte of theirs may be read.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) }
}

/// Numbers without padding.
///
/// # Safety
/// Only for primitive integers and floats.
pub unsafe trait Plain: Copy {}
// SAFETY: primitive numbers.
unsafe impl Plain for f64 {}
// SAFETY: primitive numbers.
unsafe impl Plain for i64 {}
// SAFETY: primitive numbers.
unsafe impl Plain for i32 {}
// SAFETY: primitive numbers.
unsafe impl Plain for u8 {}
