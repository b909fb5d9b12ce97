// Calculates with dates of the calendar: the days and working days between two dates, and the date so many days or months later.

@json
class Request {
  from: string = "";
  to: string = "";
  addDays: i32 = 0;
  addMonths: i32 = 0;
}

@json
class Response {
  days: i64 = 0;
  workingDays: i64 = 0;
  weekday: string = "";
  later: string = "";
}

const WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

export function handle(input: string): string {
  const request = JSON.parse<Request>(input);
  const from = Day.parse(request.from);
  const to = Day.parse(request.to);
  const response = new Response();
  response.days = to.number - from.number;
  response.workingDays = workingDays(from, to);
  response.weekday = WEEKDAYS[from.weekday];
  response.later = from.plusMonths(request.addMonths).plusDays(request.addDays).toString();
  return JSON.stringify(response);
}

/** Working days from the first date on, before the second; negative when the second comes first. */
function workingDays(from: Day, to: Day): i64 {
  if (to.number < from.number) return -workingDays(to, from);
  const days = to.number - from.number;
  let working: i64 = (days / 7) * 5;
  for (let i: i64 = 0; i < days % 7; i++) {
    if ((from.weekday + i) % 7 < 5) working++;
  }
  return working;
}

/** One day of the Gregorian calendar. `number` counts days from 1970-01-01. */
class Day {
  constructor(public year: i32, public month: i32, public day: i32) {}

  static parse(text: string): Day {
    const parts = text.split("-");
    if (parts.length != 3) throw new Error(`"${text}" is not a date such as 2026-03-31`);
    const year = i32.parse(parts[0]);
    const month = i32.parse(parts[1]);
    const day = i32.parse(parts[2]);
    if (month < 1 || month > 12 || day < 1 || day > daysIn(year, month)) {
      throw new Error(`"${text}" is not a day of the calendar`);
    }
    return new Day(year, month, day);
  }

  /** The days of months are counted from March, so that a leap day is the last of a year. */
  get number(): i64 {
    const year = this.month <= 2 ? this.year - 1 : this.year;
    const era = (year >= 0 ? year : year - 399) / 400;
    const yearOfEra = year - era * 400;
    const dayOfYear = (153 * (this.month + (this.month > 2 ? -3 : 9)) + 2) / 5 + this.day - 1;
    const dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear;
    return <i64>era * 146097 + dayOfEra - 719468;
  }

  /** 0 is Monday. */
  get weekday(): i32 {
    // 1970-01-01 was a Thursday.
    return <i32>((((this.number + 3) % 7) + 7) % 7);
  }

  plusDays(days: i32): Day {
    let day = this.day + days;
    let year = this.year;
    let month = this.month;
    while (day > daysIn(year, month)) {
      day -= daysIn(year, month);
      if (++month > 12) {
        month = 1;
        year++;
      }
    }
    while (day < 1) {
      if (--month < 1) {
        month = 12;
        year--;
      }
      day += daysIn(year, month);
    }
    return new Day(year, month, day);
  }

  /** The same day of another month, or that month's last day. */
  plusMonths(months: i32): Day {
    const total = this.year * 12 + this.month - 1 + months;
    const year = total / 12;
    const month = (total % 12) + 1;
    return new Day(year, month, min(this.day, daysIn(year, month)));
  }

  toString(): string {
    return `${this.year.toString().padStart(4, "0")}-${two(this.month)}-${two(this.day)}`;
  }
}

function two(value: i32): string {
  return value.toString().padStart(2, "0");
}

function daysIn(year: i32, month: i32): i32 {
  if (month == 2) return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28;
  return month == 4 || month == 6 || month == 9 || month == 11 ? 30 : 31;
}
