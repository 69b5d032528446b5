//! OTLP metrics as clients push them: `MetricsData` of opentelemetry-proto's metrics.proto, as far as Kafka's clients write it
//! (gauges and sums of numbers). What is of another kind is stepped over.

/// The bytes are no `MetricsData`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// A measured value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    Int(i64),
    Double(f64),
}

/// One value of one metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Point<'a> {
    pub metric: &'a str,
    /// Attributes of it whose values are text.
    pub labels: Vec<(&'a str, &'a str)>,
    pub value: Number,
}

/// Calls `each` with every point. The bytes are as long as they are: nothing of their size is kept.
pub fn points<'a>(data: &'a [u8], mut each: impl FnMut(Point<'a>)) -> Result<(), Malformed> {
    messages(data, 1, |resource| messages(resource, 2, |scope| messages(scope, 2, |found| metric(found, &mut each))))
}

/// Calls `each` with every field `number` that is a message.
fn messages<'a>(
    data: &'a [u8],
    number: u32,
    mut each: impl FnMut(&'a [u8]) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut fields = Fields(data);
    while let Some((found, field)) = fields.next()? {
        if let (true, Field::Bytes(message)) = (found == number, field) {
            each(message)?;
        }
    }
    Ok(())
}

fn metric<'a>(data: &'a [u8], each: &mut impl FnMut(Point<'a>)) -> Result<(), Malformed> {
    const NAME: u32 = 1;
    const GAUGE: u32 = 5;
    const SUM: u32 = 7;
    let (mut name, mut kinds) = ("", Vec::new());
    let mut fields = Fields(data);
    while let Some(found) = fields.next()? {
        match found {
            (NAME, Field::Bytes(text)) => name = utf8(text)?,
            (GAUGE | SUM, Field::Bytes(values)) => kinds.push(values),
            _ => {}
        }
    }
    kinds.into_iter().try_for_each(|values| {
        messages(values, 1, |data| {
            if let Some(point) = point(name, data)? {
                each(point);
            }
            Ok(())
        })
    })
}

/// `None`: without a value.
fn point<'a>(metric: &'a str, data: &'a [u8]) -> Result<Option<Point<'a>>, Malformed> {
    const AS_DOUBLE: u32 = 4;
    const AS_INT: u32 = 6;
    const ATTRIBUTES: u32 = 7;
    let (mut value, mut labels) = (None, Vec::new());
    let mut fields = Fields(data);
    while let Some(found) = fields.next()? {
        match found {
            (AS_DOUBLE, Field::Fixed64(bits)) => value = Some(Number::Double(f64::from_bits(bits))),
            (AS_INT, Field::Fixed64(bits)) => value = Some(Number::Int(bits as i64)),
            (ATTRIBUTES, Field::Bytes(attribute)) => labels.extend(label(attribute)?),
            _ => {}
        }
    }
    Ok(value.map(|value| Point { metric, labels, value }))
}

fn label(data: &[u8]) -> Result<Option<(&str, &str)>, Malformed> {
    let (mut key, mut value) = ("", None);
    let mut fields = Fields(data);
    while let Some(found) = fields.next()? {
        match found {
            (1, Field::Bytes(text)) => key = utf8(text)?,
            (2, Field::Bytes(any)) => {
                messages(any, 1, |text| {
                    value = Some(utf8(text)?);
                    Ok(())
                })?;
            }
            _ => {}
        }
    }
    Ok(value.map(|value| (key, value)))
}

fn utf8(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}

/// Fields of a protobuf message.
struct Fields<'a>(&'a [u8]);

enum Field<'a> {
    Varint,
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<(u32, Field<'a>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = u32::try_from(self.varint()?).map_err(|_| Malformed)?;
        let field = match tag & 7 {
            0 => {
                self.varint()?;
                Field::Varint
            }
            1 => Field::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| Malformed)?)),
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Field::Bytes(self.take(len)?)
            }
            5 => {
                self.take(4)?;
                Field::Fixed32
            }
            _ => return Err(Malformed),
        };
        match tag >> 3 {
            0 => Err(Malformed),
            number => Ok(Some((number, field))),
        }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(Malformed)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        assert!(content.len() < 128);
        [&[number << 3 | 2, content.len() as u8], content].concat()
    }

    fn fixed(number: u8, bits: u64) -> Vec<u8> {
        [&[number << 3 | 1][..], &bits.to_le_bytes()].concat()
    }

    #[test]
    fn gauges_and_sums_are_read_and_cut_ones_refused() {
        let label = field(7, &[field(1, b"k"), field(2, &field(1, b"v"))].concat());
        let gauge = field(5, &field(1, &[fixed(4, 1.5f64.to_bits()), label].concat()));
        let sum = field(7, &[field(1, &fixed(6, -3i64 as u64)), vec![2 << 3, 1], vec![3 << 3, 1]].concat());
        let metrics = [
            field(2, &[field(1, b"a.gauge"), field(3, b"ms"), gauge].concat()),
            field(2, &[sum, field(1, b"a.sum")].concat()),
            field(2, &[field(1, b"a.histogram"), field(9, b"")].concat()),
        ];
        let data = field(1, &[field(1, b""), field(2, &metrics.concat())].concat());
        let read = |data: &[u8]| {
            let mut all = Vec::new();
            points(data, |p| all.push(format!("{} {:?} {:?}", p.metric, p.labels, p.value))).map(|()| all)
        };
        let whole = read(&data).unwrap();
        assert_eq!(whole, [r#"a.gauge [("k", "v")] Double(1.5)"#, "a.sum [] Int(-3)"]);
        assert_eq!(read(&[]), Ok(vec![]));
        assert!((1..data.len()).all(|end| read(&data[..end]).is_err()), "its length covers everything");
        for bad in [&[0x0b][..], &[0], &[0x0a, 0x80], &[0x0a, 5, 1], &[0xff; 11]] {
            assert_eq!(read(bad), Err(Malformed), "{bad:?}");
        }
        let name = field(1, &field(2, &field(2, &[field(1, b"\xff"), field(5, &[])].concat())));
        assert_eq!(read(&name), Err(Malformed), "no text");
    }
}
