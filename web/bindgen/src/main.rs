//! `frazil-bindgen FILE.wasm FOLDER` writes the JavaScript module of a WebAssembly file, and the file without the
//! descriptions that this needed, to a folder.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [wasm, folder] = arguments.as_slice() else {
        return Err("usage: frazil-bindgen FILE.wasm FOLDER".into());
    };
    let mut bindgen = wasm_bindgen_cli_support::Bindgen::new();
    bindgen.input_path(wasm).web(true)?.typescript(false).omit_default_module_path(false).generate(folder)?;
    Ok(())
}
