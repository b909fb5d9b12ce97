//! Finds the times at which everybody is free: busy times of many people in, gaps that are long enough out.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Minutes since midnight, written as "09:30".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Time(u16);

#[derive(Clone, Copy, Deserialize, Serialize)]
struct Span {
    from: Time,
    to: Time,
}

#[derive(Deserialize)]
struct Person {
    name: String,
    #[serde(default)]
    busy: Vec<Span>,
}

#[derive(Deserialize)]
struct Request {
    day: Span,
    minutes: u16,
    people: Vec<Person>,
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parts = text.split_once(':').and_then(|(hours, minutes)| Some((hours.parse().ok()?, minutes.parse().ok()?)));
        match parts {
            Some((hours @ 0..=23, minutes @ 0..=59)) => Ok(Time(hours * 60 + minutes)),
            _ => Err(serde::de::Error::custom(format!("{text:?} is no time of day"))),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:02}:{:02}", self.0 / 60, self.0 % 60))
    }
}

fn free(day: Span, mut busy: Vec<Span>, minutes: u16) -> Vec<Span> {
    busy.sort_by_key(|span| span.from);
    // What is after the day ends the last gap.
    busy.push(Span { from: day.to, to: day.to });
    let mut gaps = Vec::new();
    let mut from = day.from;
    for span in busy {
        let to = span.from.min(day.to);
        if to >= from && to.0 - from.0 >= minutes {
            gaps.push(Span { from, to });
        }
        from = from.max(span.to);
    }
    gaps
}

pub fn handle(input: &str) -> Result<String, Box<dyn std::error::Error>> {
    let request: Request = serde_json::from_str(input)?;
    for person in &request.people {
        if let Some(span) = person.busy.iter().find(|span| span.from >= span.to) {
            return Err(format!("{} is busy until before {}", person.name, serde_json::to_string(&span.from)?).into());
        }
    }
    let busy = request.people.into_iter().flat_map(|person| person.busy).collect();
    Ok(serde_json::to_string(&free(request.day, busy, request.minutes))?)
}
