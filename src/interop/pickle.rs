//! A reader of pickles that builds what state dicts contain and runs nothing.
//!
//! A pickle is a program for a stack machine, and the real one calls any function that the file names. This one
//! knows a closed set of names ([`Global`]); any other name is an error. Values are in one list and refer to
//! each other by index, so that neither depth nor cycles cost stack.

use safetensors::tensor::Dtype;
use std::collections::BTreeMap;

/// Maximum number of values, of entries of the memo, and of elements of the stack.
const MAX_VALUES: usize = 1 << 20;

/// Maximum number of axes of a tensor.
const MAX_AXES: usize = 16;

/// Index of a value.
pub(super) type Id = u32;

/// Why a pickle is refused, and the position of the operation.
pub(super) struct Refused {
    pub byte: usize,
    pub why: String,
}

/// Names that a pickle may contain.
#[derive(Clone, Copy)]
pub(super) enum Global {
    OrderedDict,
    /// `torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, ...)`; before PyTorch 0.4 without `_v2`.
    Tensor,
    /// `torch._utils._rebuild_parameter(tensor, ...)`.
    Parameter,
    Storage(Dtype),
}

/// A value; text is a part of the pickle.
pub(super) enum Value<'p> {
    None,
    Bool(bool),
    Integer(i64),
    Text(&'p str),
    /// A number or bytes that no state dict needs.
    Other,
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Storage<'p>),
    Tensor(Tensor<'p>),
}

/// Elements in one piece of the file, which tensors share.
#[derive(Clone, Copy)]
pub(super) struct Storage<'p> {
    pub dtype: Dtype,
    pub key: &'p str,
    pub elements: usize,
}

/// A view on a storage. All elements are within it.
pub(super) struct Tensor<'p> {
    pub storage: Storage<'p>,
    /// Index in the storage of the first element.
    pub offset: usize,
    pub shape: Vec<usize>,
    /// Distance in the storage between neighbours along each axis.
    pub strides: Vec<usize>,
}

/// The values of a pickle.
pub(super) struct Pickle<'p> {
    pub values: Vec<Value<'p>>,
    pub root: Id,
    /// Size in bytes of the pickle.
    pub bytes: usize,
}

impl<'p> Pickle<'p> {
    /// Reads a pickle at the beginning of `bytes`.
    pub fn read(bytes: &'p [u8]) -> Result<Self, Refused> {
        let mut machine = Machine {
            bytes,
            position: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: BTreeMap::new(),
        };
        loop {
            let byte = machine.position;
            match machine.step() {
                Ok(None) => {}
                Ok(Some(root)) => {
                    return Ok(Pickle { values: machine.values, root, bytes: machine.position });
                }
                Err(why) => return Err(Refused { byte, why }),
            }
        }
    }

    pub fn value(&self, id: Id) -> &Value<'p> {
        // Ids are made by `Machine::push` only.
        self.values.get(id as usize).unwrap_or(&Value::None)
    }
}

struct Machine<'p> {
    bytes: &'p [u8],
    position: usize,
    values: Vec<Value<'p>>,
    stack: Vec<Id>,
    /// Heights of the stack at which groups of operands begin.
    marks: Vec<usize>,
    memo: BTreeMap<u64, Id>,
}

type Step<T> = Result<T, String>;

fn limited(elements: usize) -> Step<()> {
    if elements < MAX_VALUES {
        return Ok(());
    }
    Err(format!("expected a state dict of at most {MAX_VALUES} values, got more"))
}

impl<'p> Machine<'p> {
    /// Executes an operation; returns the result of the pickle at its end.
    fn step(&mut self) -> Step<Option<Id>> {
        let [operation] = self.array()?;
        match operation {
            // Protocol, and size of a frame.
            0x80 => drop(self.array::<1>()?),
            0x95 => drop(self.array::<8>()?),
            b'.' => return self.pop().map(Some),
            b'(' => {
                limited(self.marks.len())?;
                self.marks.push(self.stack.len());
            }
            b'0' => drop(self.pop()?),
            b'1' => drop(self.group()?),
            b'2' => {
                let top = self.top()?;
                self.push_id(top)?;
            }
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'K' => {
                let [value] = self.array()?;
                self.push(Value::Integer(value.into()))?;
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Value::Integer(value.into()))?;
            }
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Value::Integer(value.into()))?;
            }
            0x8a => {
                let [length] = self.array()?;
                self.long(length.into())?;
            }
            0x8b => {
                let length = u32::from_le_bytes(self.array()?);
                self.long(length.into())?;
            }
            b'G' => {
                self.array::<8>()?;
                self.push(Value::Other)?;
            }
            b'X' => {
                let length = u32::from_le_bytes(self.array()?);
                self.text(length.into())?;
            }
            0x8c | b'U' => {
                let [length] = self.array()?;
                self.text(length.into())?;
            }
            b'T' => {
                let length = u32::from_le_bytes(self.array()?);
                self.text(length.into())?;
            }
            0x8d => {
                let length = u64::from_le_bytes(self.array()?);
                self.text(length)?;
            }
            b'C' => {
                let [length] = self.array()?;
                self.opaque(length.into())?;
            }
            b'B' => {
                let length = u32::from_le_bytes(self.array()?);
                self.opaque(length.into())?;
            }
            0x8e => {
                let length = u64::from_le_bytes(self.array()?);
                self.opaque(length)?;
            }
            b')' => self.push(Value::Tuple(Vec::new()))?,
            b't' => {
                let items = self.group()?;
                self.push(Value::Tuple(items))?;
            }
            0x85..=0x87 => {
                let first = self
                    .stack
                    .len()
                    .checked_sub(usize::from(operation - 0x84))
                    .filter(|&at| at >= self.floor());
                let items = self.stack.split_off(first.ok_or(UNDERFLOW)?);
                self.push(Value::Tuple(items))?;
            }
            b']' => self.push(Value::List(Vec::new()))?,
            b'l' => {
                let items = self.group()?;
                self.push(Value::List(items))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.list()?.push(item);
            }
            b'e' => {
                let items = self.group()?;
                self.list()?.extend(items);
            }
            b'}' => self.push(Value::Dict(Vec::new()))?,
            b'd' => {
                let items = self.group()?;
                self.push(Value::Dict(pairs(&items)?))?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.dict()?.push((key, value));
            }
            b'u' => {
                let items = pairs(&self.group()?)?;
                self.dict()?.extend(items);
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Value::Global(global(module, name)?))?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(name), Value::Text(module)) = (self.value(name), self.value(module)) else {
                    return Err("expected the name of a global as text, got another value".to_owned());
                };
                let global = global(module, name)?;
                self.push(Value::Global(global))?;
            }
            b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                global(module, name)?;
                return Err(format!("expected no instance of a class, got one of {module}.{name}"));
            }
            b'R' => {
                let (arguments, called) = (self.pop()?, self.pop()?);
                let result = self.call(called, arguments)?;
                self.push_id(result)?;
            }
            b'b' => {
                // The attributes of an OrderedDict, such as the `_metadata` of a state dict.
                self.pop()?;
                self.dict()?;
            }
            b'q' => {
                let [key] = self.array()?;
                self.remember(key.into())?;
            }
            b'r' => {
                let key = u32::from_le_bytes(self.array()?);
                self.remember(key.into())?;
            }
            0x94 => self.remember(self.memo.len() as u64)?,
            b'h' => {
                let [key] = self.array()?;
                self.recall(key.into())?;
            }
            b'j' => {
                let key = u32::from_le_bytes(self.array()?);
                self.recall(key.into())?;
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push(Value::Storage(storage))?;
            }
            other => return Err(format!("expected an operation of a state dict, got {other:#04x}")),
        }
        Ok(None)
    }

    fn take(&mut self, length: u64) -> Step<&'p [u8]> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let taken = usize::try_from(length).ok().and_then(|length| rest.get(..length));
        let taken = taken.ok_or_else(|| format!("expected {length} more bytes, got {}", rest.len()))?;
        self.position += taken.len();
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let bytes = self.take(N as u64)?;
        bytes.try_into().map_err(|_| "expected more bytes".to_owned())
    }

    /// The text up to the end of the line.
    fn line(&mut self) -> Step<&'p str> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let end = rest.iter().take(256).position(|&byte| byte == b'\n');
        let text = self.take(end.ok_or("expected a name of at most 255 bytes, got a longer one")? as u64)?;
        self.position += 1;
        utf8(text)
    }

    fn text(&mut self, length: u64) -> Step<()> {
        let text = utf8(self.take(length)?)?;
        self.push(Value::Text(text))
    }

    fn opaque(&mut self, length: u64) -> Step<()> {
        self.take(length)?;
        self.push(Value::Other)
    }

    /// An integer of some bytes in two's complement; those beyond 64 bits are not kept.
    fn long(&mut self, length: u64) -> Step<()> {
        let bytes = self.take(length)?;
        let sign = if bytes.last().is_some_and(|&byte| byte >= 0x80) { 0xff } else { 0 };
        let mut wide = [sign; 8];
        match wide.get_mut(..bytes.len()) {
            Some(low) => low.copy_from_slice(bytes),
            None => return self.push(Value::Other),
        }
        self.push(Value::Integer(i64::from_le_bytes(wide)))
    }

    /// Adds a value without putting it on the stack.
    fn add(&mut self, value: Value<'p>) -> Step<Id> {
        limited(self.values.len())?;
        self.values.push(value);
        Ok((self.values.len() - 1) as Id)
    }

    fn push(&mut self, value: Value<'p>) -> Step<()> {
        let id = self.add(value)?;
        self.push_id(id)
    }

    fn push_id(&mut self, id: Id) -> Step<()> {
        limited(self.stack.len())?;
        self.stack.push(id);
        Ok(())
    }

    /// Height of the stack below which operands belong to an outer group.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Step<Id> {
        if self.stack.len() <= self.floor() {
            return Err(UNDERFLOW.to_owned());
        }
        self.stack.pop().ok_or_else(|| UNDERFLOW.to_owned())
    }

    fn top(&self) -> Step<Id> {
        self.stack
            .last()
            .copied()
            .filter(|_| self.stack.len() > self.floor())
            .ok_or_else(|| UNDERFLOW.to_owned())
    }

    /// The operands since the last mark.
    fn group(&mut self) -> Step<Vec<Id>> {
        let mark = self.marks.pop().ok_or("expected a mark before the operands, got none")?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn value(&self, id: Id) -> &Value<'p> {
        self.values.get(id as usize).unwrap_or(&Value::None)
    }

    fn list(&mut self) -> Step<&mut Vec<Id>> {
        let top = self.top()?;
        match self.values.get_mut(top as usize) {
            Some(Value::List(items)) => Ok(items),
            _ => Err("expected a list to append to, got another value".to_owned()),
        }
    }

    fn dict(&mut self) -> Step<&mut Vec<(Id, Id)>> {
        let top = self.top()?;
        match self.values.get_mut(top as usize) {
            Some(Value::Dict(items)) => Ok(items),
            _ => Err("expected a dict, got another value".to_owned()),
        }
    }

    fn remember(&mut self, key: u64) -> Step<()> {
        limited(self.memo.len())?;
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u64) -> Step<()> {
        let id =
            *self.memo.get(&key).ok_or_else(|| format!("expected the value {key} of the memo, got none"))?;
        self.push_id(id)
    }

    fn integer(&self, id: Id, what: &str) -> Step<usize> {
        match self.value(id) {
            Value::Integer(value) => {
                usize::try_from(*value).map_err(|_| format!("expected {what} of at least 0, got {value}"))
            }
            _ => Err(format!("expected {what} as an integer, got another value")),
        }
    }

    fn integers(&self, id: Id, what: &str) -> Step<Vec<usize>> {
        match self.value(id) {
            Value::Tuple(items) if items.len() <= MAX_AXES => {
                items.iter().map(|&item| self.integer(item, what)).collect()
            }
            _ => Err(format!("expected {what} as a tuple of at most {MAX_AXES} integers, got another value")),
        }
    }

    /// The storage that `("storage", type, key, device, elements)` refers to.
    fn storage(&self, id: Id) -> Step<Storage<'p>> {
        const EXPECTED: &str = "expected a reference to a storage, got another value";
        let Value::Tuple(items) = self.value(id) else { return Err(EXPECTED.to_owned()) };
        let [kind, class, key, _device, elements, view @ ..] = items.as_slice() else {
            return Err(EXPECTED.to_owned());
        };
        let (Value::Text("storage"), Value::Global(Global::Storage(dtype)), Value::Text(key)) =
            (self.value(*kind), self.value(*class), self.value(*key))
        else {
            return Err(EXPECTED.to_owned());
        };
        if view.iter().any(|&view| !matches!(self.value(view), Value::None)) {
            return Err(
                "expected a storage of its own, got a view of another; save a state dict again with \
                        PyTorch 1.6 or later"
                    .to_owned(),
            );
        }
        Ok(Storage { dtype: *dtype, key, elements: self.integer(*elements, "a number of elements")? })
    }

    /// The result of a call of one of the known functions.
    fn call(&mut self, called: Id, arguments: Id) -> Step<Id> {
        let (Value::Global(global), Value::Tuple(arguments)) = (self.value(called), self.value(arguments))
        else {
            return Err("expected a call of a known function, got one of another value".to_owned());
        };
        let result = match (global, arguments.as_slice()) {
            (Global::OrderedDict, []) => Value::Dict(Vec::new()),
            // As Python 2 wrote it: a list of pairs.
            (Global::OrderedDict, [items]) => {
                let Value::List(items) = self.value(*items) else {
                    return Err("expected a list of pairs for an OrderedDict, got another value".to_owned());
                };
                let pair = |id: &Id| match self.value(*id) {
                    Value::Tuple(pair) | Value::List(pair) => match *pair.as_slice() {
                        [key, value] => Some((key, value)),
                        _ => None,
                    },
                    _ => None,
                };
                let pairs: Option<Vec<_>> = items.iter().map(pair).collect();
                Value::Dict(pairs.ok_or("expected pairs for an OrderedDict, got other values")?)
            }
            (Global::Tensor, [storage, offset, shape, strides, ..]) => {
                let Value::Storage(storage) = self.value(*storage) else {
                    return Err("expected the storage of a tensor, got another value".to_owned());
                };
                let tensor = Tensor {
                    storage: *storage,
                    offset: self.integer(*offset, "an offset")?,
                    shape: self.integers(*shape, "a shape")?,
                    strides: self.integers(*strides, "strides")?,
                };
                tensor.check()?;
                Value::Tensor(tensor)
            }
            (Global::Parameter, &[tensor, ..]) if matches!(self.value(tensor), Value::Tensor(_)) => {
                return Ok(tensor);
            }
            _ => return Err("expected a call of a known function with its arguments, got others".to_owned()),
        };
        self.add(result)
    }
}

impl Tensor<'_> {
    /// Number of elements of the storage from the first to the last element of the tensor.
    pub fn span(&self) -> usize {
        if self.shape.contains(&0) {
            return 0;
        }
        let reach =
            self.shape.iter().zip(&self.strides).map(|(extent, stride)| (extent - 1).saturating_mul(*stride));
        reach.fold(1, usize::saturating_add)
    }

    /// Checks that the tensor has elements that can be counted, within its storage.
    fn check(&self) -> Step<()> {
        let Tensor { storage, offset, shape, strides } = self;
        if shape.len() != strides.len() {
            return Err(format!("expected a stride for each axis of {shape:?}, got {strides:?}"));
        }
        if shape.iter().try_fold(1usize, |all, &extent| all.checked_mul(extent)).is_none() {
            return Err(format!("expected a tensor that fits into memory, got {shape:?}"));
        }
        let end = offset.saturating_add(self.span());
        if end > storage.elements {
            return Err(format!(
                "expected a tensor within the {} elements of storage {:?}, got {shape:?} with strides {strides:?} from \
                 element {offset}",
                storage.elements, storage.key
            ));
        }
        Ok(())
    }
}

const UNDERFLOW: &str = "expected an operand, got none";

fn utf8(bytes: &[u8]) -> Step<&str> {
    std::str::from_utf8(bytes).map_err(|_| "expected text in UTF-8, got other bytes".to_owned())
}

fn pairs(items: &[Id]) -> Step<Vec<(Id, Id)>> {
    let (pairs, rest) = items.as_chunks();
    if !rest.is_empty() {
        return Err("expected pairs of keys and values, got a key alone".to_owned());
    }
    Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
}

/// Names that state dicts contain. Nothing is looked up or called for any name.
fn global(module: &str, name: &str) -> Step<Global> {
    let storage = |dtype| Ok(Global::Storage(dtype));
    match (module, name) {
        ("collections", "OrderedDict") => Ok(Global::OrderedDict),
        ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => Ok(Global::Tensor),
        ("torch._utils", "_rebuild_parameter") => Ok(Global::Parameter),
        ("torch", "FloatStorage") => storage(Dtype::F32),
        ("torch", "DoubleStorage") => storage(Dtype::F64),
        ("torch", "HalfStorage") => storage(Dtype::F16),
        ("torch", "BFloat16Storage") => storage(Dtype::BF16),
        ("torch", "LongStorage") => storage(Dtype::I64),
        ("torch", "IntStorage") => storage(Dtype::I32),
        ("torch", "ShortStorage") => storage(Dtype::I16),
        ("torch", "CharStorage") => storage(Dtype::I8),
        ("torch", "ByteStorage") => storage(Dtype::U8),
        ("torch", "BoolStorage") => storage(Dtype::BOOL),
        _ => Err(format!(
            "expected a state dict of tensors, got a pickle that calls {:?}; nothing was run. Save the weights alone: \
             torch.save(net.state_dict(), FILE), or safetensors.torch.save_file(net.state_dict(), FILE)",
            format!("{module}.{name}")
        )),
    }
}
