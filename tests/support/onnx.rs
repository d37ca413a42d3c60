//! Reads the node tests of ONNX's backend test suite: `model.onnx` and the input and output tensors. Supports
//! only what models with one node need.
//!
//! Both are protobuf messages. A message is a list of fields; a field is a key (its number and its wire type
//! in one variable-length integer) and a payload. Field numbers are those of ONNX's `onnx.proto`.

use std::collections::BTreeMap;
use std::path::Path;

/// The payload of a field.
#[derive(Clone, Copy, Debug)]
enum Payload<'a> {
    /// A variable-length integer.
    Integer(u64),
    /// 4 bytes, as a little-endian integer: an integer or the bits of a float.
    Word(u32),
    /// Text, a message, or packed numbers.
    Bytes(&'a [u8]),
    /// 8 bytes, whose value is skipped: no field that this module reads has this type.
    Double,
}

/// An attribute of a node. Attributes of other types are skipped.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    Float(f32),
    Int(i64),
    Text(String),
    Ints(Vec<i64>),
}

/// A tensor of f32, i32, i64 or u8, widened to f64.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub data: Vec<f64>,
    /// ONNX's name of the element type.
    pub dtype: &'static str,
}

/// A test case of one ONNX node. An operand is `None` if it is optional and the node omits it, or if
/// [`Tensor`] does not support its element type.
#[derive(Debug)]
pub struct Case {
    pub name: String,
    pub op: String,
    pub attributes: BTreeMap<String, Attribute>,
    pub inputs: Vec<Option<Tensor>>,
    pub outputs: Vec<Option<Tensor>>,
}

type Read<T> = Result<T, String>;

/// Reads a variable-length integer: 7 bits per byte, least significant first; the high bit is set in every
/// byte but the last.
fn varint(bytes: &mut &[u8]) -> Read<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or("ends inside an integer")?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err("expected an integer of at most 64 bits, got a longer one".into())
}

fn take<'a>(bytes: &mut &'a [u8], count: u64) -> Read<&'a [u8]> {
    let count = usize::try_from(count).ok().filter(|&n| n <= bytes.len()).ok_or("ends inside a field")?;
    let (front, rest) = bytes.split_at(count);
    *bytes = rest;
    Ok(front)
}

fn word(bytes: &[u8]) -> Read<u32> {
    bytes.try_into().map(u32::from_le_bytes).map_err(|_| "expected 4 bytes, got another number".into())
}

fn double_word(bytes: &[u8]) -> Read<u64> {
    bytes.try_into().map(u64::from_le_bytes).map_err(|_| "expected 8 bytes, got another number".into())
}

/// Reads all fields of a message, in order.
fn fields(mut bytes: &[u8]) -> Read<Vec<(u64, Payload<'_>)>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let payload = match key & 7 {
            0 => Payload::Integer(varint(&mut bytes)?),
            1 => {
                take(&mut bytes, 8)?;
                Payload::Double
            }
            2 => {
                let length = varint(&mut bytes)?;
                Payload::Bytes(take(&mut bytes, length)?)
            }
            5 => Payload::Word(word(take(&mut bytes, 4)?)?),
            other => return Err(format!("expected wire type 0, 1, 2 or 5, got {other}")),
        };
        all.push((key >> 3, payload));
    }
    Ok(all)
}

fn bytes<'a>(payload: &Payload<'a>) -> Read<&'a [u8]> {
    match payload {
        Payload::Bytes(bytes) => Ok(bytes),
        other => Err(format!("expected bytes, got {other:?}")),
    }
}

fn text(payload: &Payload) -> Read<String> {
    String::from_utf8(bytes(payload)?.to_vec()).map_err(|_| "expected UTF-8, got other bytes".into())
}

/// Appends the integers of a field to `into`: one integer, or a packed list.
fn integers(payload: &Payload, into: &mut Vec<i64>) -> Read<()> {
    match payload {
        &Payload::Integer(value) => into.push(value as i64),
        &Payload::Bytes(mut packed) => {
            while !packed.is_empty() {
                into.push(varint(&mut packed)? as i64);
            }
        }
        other => return Err(format!("expected integers, got {other:?}")),
    }
    Ok(())
}

/// Appends the floats of a field to `into`: one float, or a packed list.
fn floats(payload: &Payload, into: &mut Vec<f64>) -> Read<()> {
    let wide = |bits| f64::from(f32::from_bits(bits));
    match payload {
        Payload::Word(bits) => into.push(wide(*bits)),
        Payload::Bytes(packed) => {
            for chunk in packed.chunks(4) {
                into.push(wide(word(chunk)?));
            }
        }
        other => return Err(format!("expected floats, got {other:?}")),
    }
    Ok(())
}

/// Reads a TensorProto; `None` for an unsupported element type.
pub fn tensor(message: &[u8]) -> Read<Option<Tensor>> {
    let (mut dims, mut dtype, mut data, mut packed, mut raw) = (Vec::new(), 0, Vec::new(), Vec::new(), None);
    for (number, payload) in fields(message)? {
        match (number, payload) {
            (1, payload) => integers(&payload, &mut dims)?,
            (2, Payload::Integer(value)) => dtype = value,
            (4, payload) => floats(&payload, &mut data)?,
            (5 | 7, payload) => integers(&payload, &mut packed)?,
            (9, payload) => raw = Some(bytes(&payload)?),
            _ => {}
        }
    }
    let (name, size) = match dtype {
        1 => ("float", 4),
        2 => ("uint8", 1),
        6 => ("int32", 4),
        7 => ("int64", 8),
        _ => return Ok(None),
    };
    data.extend(packed.into_iter().map(|x| x as f64));
    for chunk in raw.unwrap_or_default().chunks(size) {
        data.push(match name {
            "float" => f64::from(f32::from_bits(word(chunk)?)),
            "int32" => f64::from(word(chunk)? as i32),
            "int64" => double_word(chunk)? as i64 as f64,
            _ => f64::from(chunk[0]),
        });
    }
    let extent =
        |&dim: &i64| usize::try_from(dim).map_err(|_| format!("expected an extent of 0 or more, got {dim}"));
    let shape = dims.iter().map(extent).collect::<Read<Vec<_>>>()?;
    let elements = shape.iter().try_fold(1usize, |a, &b| a.checked_mul(b)).ok_or("too many elements")?;
    if elements != data.len() {
        return Err(format!("expected {elements} elements for shape {shape:?}, got {}", data.len()));
    }
    Ok(Some(Tensor { shape, data, dtype: name }))
}

/// Reads an AttributeProto: its name, and its value if the type is supported.
fn attribute(message: &[u8]) -> Read<(String, Option<Attribute>)> {
    let (mut name, mut value, mut list) = (String::new(), None, Vec::new());
    for (number, payload) in fields(message)? {
        match (number, payload) {
            (1, payload) => name = text(&payload)?,
            (2, Payload::Word(bits)) => value = Some(Attribute::Float(f32::from_bits(bits))),
            (3, Payload::Integer(int)) => value = Some(Attribute::Int(int as i64)),
            (4, payload) => value = Some(Attribute::Text(text(&payload)?)),
            (8, payload) => integers(&payload, &mut list)?,
            _ => {}
        }
    }
    Ok((name, value.or((!list.is_empty()).then_some(Attribute::Ints(list)))))
}

/// A NodeProto: operator, attributes, and the names of inputs and outputs.
struct Node {
    op: String,
    attributes: BTreeMap<String, Attribute>,
    operands: [Vec<String>; 2],
}

fn node(message: &[u8]) -> Read<Node> {
    let mut node =
        Node { op: String::new(), attributes: BTreeMap::new(), operands: [Vec::new(), Vec::new()] };
    for (number, payload) in fields(message)? {
        match number {
            1 | 2 => node.operands[number as usize - 1].push(text(&payload)?),
            4 => node.op = text(&payload)?,
            5 => {
                let (name, value) = attribute(bytes(&payload)?)?;
                if let Some(value) = value {
                    node.attributes.insert(name, value);
                }
            }
            _ => {}
        }
    }
    Ok(node)
}

/// A ModelProto: its nodes, and the names of the graph's inputs and outputs.
#[derive(Default)]
struct Model {
    nodes: Vec<Node>,
    operands: [Vec<String>; 2],
}

fn model(message: &[u8]) -> Read<Model> {
    let mut model = Model::default();
    let parts = fields(message)?;
    let Some((_, graph)) = parts.iter().find(|(number, _)| *number == 7) else {
        return Err("expected a graph, got none".into());
    };
    for (number, payload) in fields(bytes(graph)?)? {
        match number {
            1 => model.nodes.push(node(bytes(&payload)?)?),
            11 | 12 => {
                let value = fields(bytes(&payload)?)?;
                let name =
                    value.iter().find(|(number, _)| *number == 1).ok_or("expected a name, got none")?;
                model.operands[number as usize - 11].push(text(&name.1)?);
            }
            _ => {}
        }
    }
    Ok(model)
}

/// Loads the case in a folder; `None` if its model has several nodes, or if `supported` is false for its
/// operator.
///
/// # Errors
/// A file that is missing or cannot be parsed.
pub fn case(folder: &Path, supported: impl Fn(&str) -> bool) -> Read<Option<Case>> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let load =
        |file: &str| std::fs::read(folder.join(file)).map_err(|error| format!("{name}/{file}: {error}"));
    let model = model(&load("model.onnx")?).map_err(|why| format!("{name}/model.onnx: {why}"))?;
    let Ok([node]) = <[Node; 1]>::try_from(model.nodes) else { return Ok(None) };
    if !supported(&node.op) {
        return Ok(None);
    }
    let find = |side: usize, kind: &str| -> Read<Vec<Option<Tensor>>> {
        let operand = |name: &String| -> Read<Option<Tensor>> {
            let Some(index) = model.operands[side].iter().position(|n| n == name) else {
                return Ok(None);
            };
            let file = format!("test_data_set_0/{kind}_{index}.pb");
            tensor(&load(&file)?).map_err(|why| format!("{name}/{file}: {why}"))
        };
        node.operands[side].iter().map(operand).collect()
    };
    let (inputs, outputs) = (find(0, "input")?, find(1, "output")?);
    Ok(Some(Case { op: node.op, attributes: node.attributes, inputs, outputs, name }))
}

#[test]
fn tensor_reads_a_valid_message_and_rejects_broken_ones() {
    // A TensorProto with dims [2, 2] (packed), element type FLOAT, a field that must be skipped, and the
    // elements 1, 2, 3, 4 as raw data.
    let mut message = vec![0x0a, 2, 2, 2, 0x10, 1, 0x42, 1, b'x', 0x4a, 16];
    [1.0f32, 2.0, 3.0, 4.0].iter().for_each(|x| message.extend(x.to_le_bytes()));
    let read = tensor(&message).unwrap().unwrap();
    assert_eq!((read.shape, read.data, read.dtype), (vec![2, 2], vec![1.0, 2.0, 3.0, 4.0], "float"));
    for length in 1..message.len() {
        // If the message ends before the element type, the type is unsupported; if it ends later, elements
        // are missing.
        assert!(!matches!(tensor(&message[..length]), Ok(Some(_))), "cut to {length}");
    }
    message[2] = 3;
    assert!(tensor(&message).is_err(), "elements are missing");
    assert!(varint(&mut [0xff; 10].as_slice()).is_err(), "an integer without a last byte");
    assert_eq!(varint(&mut [0xac, 0x02].as_slice()), Ok(300));
    assert!(fields(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]).is_err(), "a length beyond the end of the message");
}
