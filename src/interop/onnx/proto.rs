//! ONNX's protobuf messages: the fields that convolutional networks use, read without copying tensors, and
//! written.
//!
//! A message is a list of fields; a field is a key (its number and its wire type in one variable-length integer)
//! and a payload. Field numbers are those of ONNX's `onnx.proto`. Every length is checked against the bytes that
//! are there, so that nothing is allocated for sizes that a file claims.

use crate::host_memory;
use half::{bf16, f16};
use std::collections::BTreeMap;

/// The reason why a message cannot be read.
pub(super) type Read<T> = std::result::Result<T, String>;

/// The payload of a field.
#[derive(Clone, Copy, Debug)]
enum Payload<'a> {
    Integer(u64),
    /// 4 bytes: an integer or the bits of a float, little-endian.
    Word([u8; 4]),
    /// 8 bytes, little-endian.
    Double([u8; 8]),
    /// Text, a message, or packed numbers.
    Bytes(&'a [u8]),
}

/// Splits off a variable-length integer: 7 bits per byte, least significant first; the high bit is set in every
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
    Err("expected an integer of at most 64 bits, got a longer one".to_owned())
}

/// Splits off this many bytes.
fn take<'a>(bytes: &mut &'a [u8], count: u64) -> Read<&'a [u8]> {
    let fits = usize::try_from(count).ok().and_then(|count| bytes.split_at_checked(count));
    let (front, rest) = fits.ok_or("ends inside a field")?;
    *bytes = rest;
    Ok(front)
}

/// Splits off this many bytes as an array.
fn array<const N: usize>(bytes: &mut &[u8]) -> Read<[u8; N]> {
    take(bytes, N as u64)?.try_into().map_err(|_| "ends inside a field".to_owned())
}

/// The fields of a message, in order.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn read(&mut self) -> Read<(u64, Payload<'a>)> {
        let key = varint(&mut self.0)?;
        let payload = match key & 7 {
            0 => Payload::Integer(varint(&mut self.0)?),
            1 => Payload::Double(array(&mut self.0)?),
            2 => {
                let length = varint(&mut self.0)?;
                Payload::Bytes(take(&mut self.0, length)?)
            }
            5 => Payload::Word(array(&mut self.0)?),
            other => return Err(format!("expected wire type 0, 1, 2 or 5, got {other}")),
        };
        Ok((key >> 3, payload))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Read<(u64, Payload<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Payload<'a> {
    fn bytes(self) -> Read<&'a [u8]> {
        match self {
            Payload::Bytes(bytes) => Ok(bytes),
            other => Err(format!("expected bytes, got {other:?}")),
        }
    }

    fn text(self) -> Read<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "expected UTF-8 text, got other bytes".to_owned())
    }

    fn integer(self) -> Read<i64> {
        match self {
            Payload::Integer(value) => Ok(value as i64),
            other => Err(format!("expected an integer, got {other:?}")),
        }
    }

    /// Appends one integer, or a packed list.
    fn integers(self, into: &mut Vec<i64>) -> Read<()> {
        match self {
            Payload::Bytes(mut packed) => {
                while !packed.is_empty() {
                    into.push(varint(&mut packed)? as i64);
                }
            }
            other => into.push(other.integer()?),
        }
        Ok(())
    }

    /// Appends one float, or a packed list.
    fn floats(self, into: &mut Vec<f32>) -> Read<()> {
        match self {
            Payload::Word(bits) => into.push(f32::from_le_bytes(bits)),
            Payload::Bytes(packed) => match packed.as_chunks() {
                (words, []) => into.extend(words.iter().map(|&word| f32::from_le_bytes(word))),
                _ => return Err("expected floats of 4 bytes, got another number of bytes".to_owned()),
            },
            other => return Err(format!("expected floats, got {other:?}")),
        }
        Ok(())
    }

    /// Appends one double, or a packed list.
    fn doubles(self, into: &mut Vec<f64>) -> Read<()> {
        match self {
            Payload::Double(bits) => into.push(f64::from_le_bytes(bits)),
            Payload::Bytes(packed) => match packed.as_chunks() {
                (words, []) => into.extend(words.iter().map(|&word| f64::from_le_bytes(word))),
                _ => return Err("expected doubles of 8 bytes, got another number of bytes".to_owned()),
            },
            other => return Err(format!("expected doubles, got {other:?}")),
        }
        Ok(())
    }
}

/// Element types by their number in ONNX, and their size in bytes.
const TYPES: [(i64, &str, usize); 9] = [
    (1, "float", 4),
    (2, "uint8", 1),
    (3, "int8", 1),
    (6, "int32", 4),
    (7, "int64", 8),
    (9, "bool", 1),
    (10, "float16", 2),
    (11, "double", 8),
    (16, "bfloat16", 2),
];

/// Maximum number of elements of the tensors of a file that are filled with one value: few bytes could otherwise
/// become gigabytes.
pub(super) const MAX_FILLED: usize = 1 << 28;

/// A tensor whose elements are still in the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Tensor<'a> {
    pub name: &'a str,
    pub dims: Vec<usize>,
    dtype: i64,
    raw: Option<&'a [u8]>,
    floats: Vec<f32>,
    doubles: Vec<f64>,
    integers: Vec<i64>,
    external: bool,
    /// The value of all elements, which are not stored.
    fill: Option<f32>,
}

impl<'a> Tensor<'a> {
    fn new(message: &'a [u8]) -> Read<Self> {
        let mut tensor = Tensor::default();
        let mut dims = Vec::new();
        for field in Fields(message) {
            match field? {
                (1, payload) => payload.integers(&mut dims)?,
                (2, payload) => tensor.dtype = payload.integer()?,
                (4, payload) => payload.floats(&mut tensor.floats)?,
                (5 | 7, payload) => payload.integers(&mut tensor.integers)?,
                (8, payload) => tensor.name = payload.text()?,
                (9, payload) => tensor.raw = Some(payload.bytes()?),
                (10, payload) => payload.doubles(&mut tensor.doubles)?,
                (13, _) => tensor.external = true,
                (14, payload) => tensor.external |= payload.integer()? == 1,
                _ => {}
            }
        }
        let extent = |&dim: &i64| {
            usize::try_from(dim).map_err(|_| format!("expected an extent of 0 or more, got {dim}"))
        };
        tensor.dims = dims.iter().map(extent).collect::<Read<_>>().map_err(|why| tensor.named(why))?;
        Ok(tensor)
    }

    /// A tensor of 64-bit integers.
    pub fn of_integers(dims: Vec<usize>, integers: Vec<i64>) -> Self {
        Tensor { dims, dtype: 7, integers, ..Tensor::default() }
    }

    /// A tensor of f32.
    pub fn of_floats(dims: Vec<usize>, floats: Vec<f32>) -> Self {
        Tensor { dims, dtype: 1, floats, ..Tensor::default() }
    }

    /// A tensor of equal f32.
    pub fn filled(dims: Vec<usize>, value: f32) -> Self {
        Tensor { dims, dtype: 1, fill: Some(value), ..Tensor::default() }
    }

    /// The same elements in another shape.
    pub fn reshaped(&self, dims: Vec<usize>) -> Self {
        Tensor { dims, ..self.clone() }
    }

    /// Whether the elements are not stored in the file, so that its size does not limit their number.
    pub fn is_filled(&self) -> bool {
        self.fill.is_some()
    }

    fn named(&self, why: String) -> String {
        format!("tensor {:?}: {why}", self.name)
    }

    /// Number of elements, checked against the data.
    fn elements(&self, found: usize) -> Read<usize> {
        let elements = self.dims.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
        match elements {
            _ if self.external => Err(self.named(
                "expected the elements inside the file, got a reference to another file; export with external_data=False"
                    .to_owned(),
            )),
            Some(elements) if elements == found => Ok(elements),
            _ => Err(self.named(format!("expected the elements of {:?}, got {found} elements", self.dims))),
        }
    }

    fn type_name(&self) -> Read<(&'static str, usize)> {
        let known = TYPES.iter().find(|(number, ..)| *number == self.dtype);
        let (_, name, size) =
            known.ok_or_else(|| self.named(format!("unknown element type {}", self.dtype)))?;
        Ok((name, *size))
    }

    /// The element type, with the name that other formats have for it.
    pub fn short_type(&self) -> String {
        match self.type_name() {
            Ok(("float", _)) => "f32".to_owned(),
            Ok(("double", _)) => "f64".to_owned(),
            Ok(("float16", _)) => "f16".to_owned(),
            Ok(("bfloat16", _)) => "bf16".to_owned(),
            Ok((name, _)) => name.replace("uint", "u").replace("int", "i"),
            Err(_) => format!("type {}", self.dtype),
        }
    }

    /// Whether the elements are floating-point numbers.
    pub fn is_float(&self) -> bool {
        matches!(self.dtype, 1 | 10 | 11 | 16)
    }

    /// Returns the elements of a floating-point tensor, row-major.
    pub fn to_floats(&self) -> Read<Vec<f32>> {
        let (name, size) = self.type_name()?;
        if let Some(fill) = self.fill {
            let count = self.dims.iter().try_fold(1usize, |count, &extent| count.checked_mul(extent));
            let count = count.filter(|&count| count <= MAX_FILLED).ok_or_else(|| {
                self.named(format!("expected at most {MAX_FILLED} equal elements, got {:?}", self.dims))
            })?;
            let mut values = host_memory::reserve(count, self.name).map_err(|error| error.to_string())?;
            values.resize(count, fill);
            return Ok(values);
        }
        let count = match (self.raw, name) {
            (Some(raw), _) => raw.len() / size,
            (None, "float") => self.floats.len(),
            (None, "double") => self.doubles.len(),
            _ => self.integers.len(),
        };
        let count = self.elements(count)?;
        let mut values = host_memory::reserve(count, self.name).map_err(|error| error.to_string())?;
        let raw = self.raw.unwrap_or_default();
        match (name, self.raw) {
            ("float", Some(_)) => values.extend(raw.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b))),
            ("float", None) => values.extend(&self.floats),
            ("double", Some(_)) => {
                values.extend(raw.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b) as f32))
            }
            ("double", None) => values.extend(self.doubles.iter().map(|&value| value as f32)),
            ("float16", Some(_)) => {
                values.extend(raw.as_chunks().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()))
            }
            ("float16", None) => {
                values.extend(self.integers.iter().map(|&bits| f16::from_bits(bits as u16).to_f32()))
            }
            ("bfloat16", Some(_)) => {
                values.extend(raw.as_chunks().0.iter().map(|&b| bf16::from_le_bytes(b).to_f32()))
            }
            ("bfloat16", None) => {
                values.extend(self.integers.iter().map(|&bits| bf16::from_bits(bits as u16).to_f32()))
            }
            _ => return Err(self.named(format!("expected floating-point elements, got {name}"))),
        }
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(index) => {
                Err(self.named(format!("element {index}: expected a finite f32, got {}", values[index])))
            }
        }
    }

    /// Returns the elements of an integer or bool tensor, row-major.
    pub fn to_integers(&self) -> Read<Vec<i64>> {
        let (name, size) = self.type_name()?;
        let raw = self.raw.unwrap_or_default();
        self.elements(self.raw.map_or(self.integers.len(), |raw| raw.len() / size))?;
        Ok(match (name, self.raw) {
            ("int64", Some(_)) => raw.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b)).collect(),
            ("int32", Some(_)) => raw.as_chunks().0.iter().map(|&b| i32::from_le_bytes(b).into()).collect(),
            ("int8", Some(_)) => raw.iter().map(|&byte| (byte as i8).into()).collect(),
            ("uint8" | "bool", Some(_)) => raw.iter().map(|&byte| byte.into()).collect(),
            ("int64" | "int32" | "int8" | "uint8" | "bool", None) => self.integers.clone(),
            _ => return Err(self.named(format!("expected integers, got {name}"))),
        })
    }
}

/// An attribute of a node. Attributes of other types are kept out.
#[derive(Clone, Debug)]
pub(super) enum Attribute<'a> {
    Float(f32),
    Int(i64),
    Text(&'a str),
    Tensor(Tensor<'a>),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
}

/// A node: an operator with its operands.
#[derive(Clone, Debug, Default)]
pub(super) struct Node<'a> {
    pub name: &'a str,
    pub op: &'a str,
    pub domain: &'a str,
    pub inputs: Vec<&'a str>,
    pub outputs: Vec<&'a str>,
    pub attributes: BTreeMap<&'a str, Attribute<'a>>,
}

impl<'a> Node<'a> {
    fn new(message: &'a [u8]) -> Read<Self> {
        let mut node = Node::default();
        for field in Fields(message) {
            match field? {
                (1, payload) => node.inputs.push(payload.text()?),
                (2, payload) => node.outputs.push(payload.text()?),
                (3, payload) => node.name = payload.text()?,
                (4, payload) => node.op = payload.text()?,
                (5, payload) => {
                    if let (name, Some(value)) = attribute(payload.bytes()?)? {
                        node.attributes.insert(name, value);
                    }
                }
                (7, payload) => node.domain = payload.text()?,
                _ => {}
            }
        }
        Ok(node)
    }
}

fn attribute(message: &[u8]) -> Read<(&str, Option<Attribute<'_>>)> {
    let (mut name, mut value, mut kind) = ("", None, 0);
    let (mut floats, mut ints) = (Vec::new(), Vec::new());
    for field in Fields(message) {
        match field? {
            (1, payload) => name = payload.text()?,
            (2, Payload::Word(bits)) => value = Some(Attribute::Float(f32::from_le_bytes(bits))),
            (3, payload) => value = Some(Attribute::Int(payload.integer()?)),
            // Not all byte strings are text, such as those of custom operators.
            (4, payload) => value = payload.text().ok().map(Attribute::Text),
            (5, payload) => value = Some(Attribute::Tensor(Tensor::new(payload.bytes()?)?)),
            (7, payload) => payload.floats(&mut floats)?,
            (8, payload) => payload.integers(&mut ints)?,
            (20, payload) => kind = payload.integer()?,
            _ => {}
        }
    }
    // Empty lists and zeros are not written: the type says what is meant.
    let value = value.or(match kind {
        1 => Some(Attribute::Float(0.0)),
        2 => Some(Attribute::Int(0)),
        3 => Some(Attribute::Text("")),
        6 => Some(Attribute::Floats(floats)),
        7 => Some(Attribute::Ints(ints)),
        _ => None,
    });
    Ok((name, value))
}

/// An input or output of a graph: its name and its shape, in which extents without a number are `None`.
#[derive(Clone, Debug, Default)]
pub(super) struct Value<'a> {
    pub name: &'a str,
    pub shape: Option<Vec<Option<usize>>>,
}

impl<'a> Value<'a> {
    fn new(message: &'a [u8]) -> Read<Self> {
        let mut value = Value::default();
        for field in Fields(message) {
            match field? {
                (1, payload) => value.name = payload.text()?,
                (2, payload) => {
                    for shape in messages(payload.bytes()?, &[1, 2])? {
                        value.shape = Some(shape_of(shape)?);
                    }
                }
                _ => {}
            }
        }
        Ok(value)
    }
}

/// Returns the messages that are found by following these fields one inside the other.
fn messages<'a>(message: &'a [u8], path: &[u64]) -> Read<Vec<&'a [u8]>> {
    let mut found = vec![message];
    for &number in path {
        let mut inside = Vec::new();
        for message in found {
            for field in Fields(message) {
                match field? {
                    (other, payload) if other == number => inside.push(payload.bytes()?),
                    _ => {}
                }
            }
        }
        found = inside;
    }
    Ok(found)
}

fn shape_of(message: &[u8]) -> Read<Vec<Option<usize>>> {
    let mut shape = Vec::new();
    for extent in messages(message, &[1])? {
        let mut known = None;
        for field in Fields(extent) {
            if let (1, payload) = field? {
                known = usize::try_from(payload.integer()?).ok();
            }
        }
        shape.push(known);
    }
    Ok(shape)
}

/// A model: its graph and the version of the operators.
#[derive(Clone, Debug, Default)]
pub(super) struct File<'a> {
    pub opset: i64,
    pub nodes: Vec<Node<'a>>,
    pub initializers: Vec<Tensor<'a>>,
    pub inputs: Vec<Value<'a>>,
    pub outputs: Vec<Value<'a>>,
}

impl<'a> File<'a> {
    pub fn new(bytes: &'a [u8]) -> Read<Self> {
        let mut file = File::default();
        let mut graphs = 0;
        for field in Fields(bytes) {
            match field? {
                (7, payload) => {
                    graphs += 1;
                    file.read_graph(payload.bytes()?)?;
                }
                (8, payload) => {
                    let (mut domain, mut version) = ("", 0);
                    for field in Fields(payload.bytes()?) {
                        match field? {
                            (1, payload) => domain = payload.text()?,
                            (2, payload) => version = payload.integer()?,
                            _ => {}
                        }
                    }
                    if domain.is_empty() || domain == "ai.onnx" {
                        file.opset = version;
                    }
                }
                _ => {}
            }
        }
        match (graphs, file.opset) {
            (1, 1..) => Ok(file),
            (1, _) => Err("expected the version of ONNX's operators, got none".to_owned()),
            _ => Err(format!("not a complete ONNX file: expected one graph, got {graphs}")),
        }
    }

    fn read_graph(&mut self, message: &'a [u8]) -> Read<()> {
        for field in Fields(message) {
            match field? {
                (1, payload) => self.nodes.push(Node::new(payload.bytes()?)?),
                (5, payload) => self.initializers.push(Tensor::new(payload.bytes()?)?),
                (11, payload) => self.inputs.push(Value::new(payload.bytes()?)?),
                (12, payload) => self.outputs.push(Value::new(payload.bytes()?)?),
                (15, _) => return Err("expected dense initializers, got a sparse one".to_owned()),
                _ => {}
            }
        }
        Ok(())
    }
}

/// A message under construction.
#[derive(Clone, Debug, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// Appends an integer.
    pub fn integer(mut self, number: u64, value: i64) -> Self {
        self.varint(number << 3);
        self.varint(value as u64);
        self
    }

    /// Appends a float.
    pub fn float(mut self, number: u64, value: f32) -> Self {
        self.varint(number << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Appends text, a message or raw data.
    pub fn bytes(mut self, number: u64, value: &[u8]) -> Self {
        self.varint(number << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    /// Appends a message.
    pub fn message(self, number: u64, value: Message) -> Self {
        self.bytes(number, &value.0)
    }

    /// Appends messages with the same number.
    pub fn messages(self, number: u64, values: impl IntoIterator<Item = Message>) -> Self {
        values.into_iter().fold(self, |message, value| message.message(number, value))
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor() -> Message {
        let data: Vec<u8> = [1.0f32, 2.0, -3.0, 4.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let message = Message::default().integer(1, 2).integer(1, 2).integer(2, 1);
        message.bytes(8, b"w").bytes(9, &data)
    }

    #[test]
    fn written_messages_are_read() {
        let bytes = tensor().into_bytes();
        let read = Tensor::new(&bytes).unwrap();
        assert_eq!(
            (read.name, &*read.dims, read.to_floats().unwrap()),
            ("w", &[2, 2][..], vec![1.0, 2.0, -3.0, 4.0])
        );
        assert!(read.to_integers().is_err());
        let graph = Message::default().message(5, tensor()).message(1, Message::default().bytes(4, b"Relu"));
        let opset = Message::default().integer(2, 20);
        let file = Message::default().integer(1, 9).message(7, graph).message(8, opset).into_bytes();
        let file = File::new(&file).unwrap();
        assert_eq!((file.opset, file.nodes[0].op, file.initializers[0].name), (20, "Relu", "w"));
        assert_eq!(varint(&mut [0xac, 0x02].as_slice()), Ok(300));
        let attribute_bytes = Message::default().bytes(1, b"axis").integer(3, -1).into_bytes();
        assert!(matches!(attribute(&attribute_bytes), Ok(("axis", Some(Attribute::Int(-1))))));
    }

    #[test]
    fn broken_messages_are_refused() {
        let bytes = tensor().into_bytes();
        for length in 1..bytes.len() {
            let cut = Tensor::new(&bytes[..length]);
            assert!(cut.and_then(|tensor| tensor.to_floats()).is_err(), "cut to {length}");
        }
        assert!(varint(&mut [0xff; 10].as_slice()).is_err(), "an integer without a last byte");
        let long = Fields(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]).next().unwrap();
        assert!(long.is_err(), "a length beyond the end of the message");
        let huge = Message::default().integer(1, 1 << 40).integer(1, 1 << 40).integer(2, 1).into_bytes();
        assert!(Tensor::new(&huge).unwrap().to_floats().is_err(), "more elements than bytes");
        let external = Message::default().integer(2, 1).integer(14, 1).into_bytes();
        assert!(Tensor::new(&external).unwrap().to_floats().unwrap_err().contains("another file"));
        assert!(File::new(&[]).is_err() && File::new(&bytes).is_err());
    }
}
