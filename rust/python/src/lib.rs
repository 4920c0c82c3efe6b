//! `moda._core`: the engine as Python sees it. Thin on purpose: every rule lives in `moda-core`,
//! the stub `python/moda/_core.pyi` is the manual.

use pyo3::prelude::*;

mod calls;
mod capi;
mod codec;
mod counters;
mod driver;
mod guard;
mod head;
mod hub;
mod native;
mod questions;
mod record;
mod settle;
mod values;

#[pymodule(gil_used = true)]
mod _core {
    #[pymodule_export]
    use crate::guard::Guard;

    #[pymodule_export]
    use crate::head::{read_head, RequestHead};

    #[pymodule_export]
    use crate::hub::Hub;

    #[pymodule_export]
    use crate::codec::{
        decode_binary, decode_text, decode_v1, encode_binary_broadcast, encode_binary_push,
        encode_binary_reply, encode_text_broadcast, encode_text_push, encode_text_reply,
        encode_v1_broadcast, encode_v1_reply, read_varuint, unwrap_combined, write_varuint,
    };

    #[pymodule_export]
    use crate::questions::{kept_messages, kept_since, topic_facts, topic_names};

    #[pymodule_export]
    use crate::record::{read_record, write_record};

    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        let panic = module.py().get_type::<pyo3::panic::PanicException>();
        module.add("PanicException", panic)?;
        module.add("_C_API", crate::capi::capsule(module.py())?)
    }
}
