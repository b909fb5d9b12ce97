// Checks an invoice before it is booked and answers with the errors by field, an empty object when there are none.

@json
class Line {
  description: string = "";
  quantity: f64 = 0;
  unitPrice: f64 = 0;
}

@json
class Invoice {
  number: string = "";
  customerEmail: string = "";
  issuedOn: string = "";
  dueOn: string = "";
  currency: string = "";
  lines: Line[] = [];
  total: f64 = 0;
}

@json
class Report {
  valid: bool = true;
  errors: Map<string, string[]> = new Map<string, string[]>();

  add(field: string, problem: string): void {
    this.valid = false;
    if (!this.errors.has(field)) this.errors.set(field, []);
    this.errors.get(field).push(problem);
  }
}

const CURRENCIES = ["EUR", "GBP", "JPY", "USD"];

export function handle(input: string): string {
  const invoice = JSON.parse<Invoice>(input);
  const report = new Report();
  checkNumber(invoice.number, report);
  checkEmail(invoice.customerEmail, report);
  checkDates(invoice, report);
  if (!CURRENCIES.includes(invoice.currency)) report.add("currency", `must be one of ${CURRENCIES.join(", ")}`);
  checkLines(invoice, report);
  return JSON.stringify(report);
}

function checkNumber(number: string, report: Report): void {
  if (!number.startsWith("INV-")) report.add("number", "must begin with INV-");
  else if (!isDigits(number.substring(4), 6)) report.add("number", "must have six digits after INV-");
}

function checkEmail(email: string, report: Report): void {
  const at = email.indexOf("@");
  const dot = email.lastIndexOf(".");
  if (at < 1 || dot < at + 2 || dot == email.length - 1) report.add("customerEmail", "must be an e-mail address");
}

function checkDates(invoice: Invoice, report: Report): void {
  const issued = isDate(invoice.issuedOn);
  const due = isDate(invoice.dueOn);
  if (!issued) report.add("issuedOn", "must be a date such as 2026-03-31");
  if (!due) report.add("dueOn", "must be a date such as 2026-03-31");
  // Dates of this form sort as text.
  if (issued && due && invoice.dueOn < invoice.issuedOn) report.add("dueOn", "must not be before issuedOn");
}

function checkLines(invoice: Invoice, report: Report): void {
  if (invoice.lines.length == 0) report.add("lines", "must not be empty");
  let sum: f64 = 0;
  for (let i = 0; i < invoice.lines.length; i++) {
    const line = invoice.lines[i];
    if (line.description.trim().length == 0) report.add(`lines[${i}].description`, "must not be blank");
    if (line.quantity <= 0) report.add(`lines[${i}].quantity`, "must be positive");
    if (line.unitPrice < 0) report.add(`lines[${i}].unitPrice`, "must not be negative");
    sum += line.quantity * line.unitPrice;
  }
  if (Math.abs(sum - invoice.total) > 0.005) report.add("total", "must be the sum of the lines");
}

function isDate(text: string): bool {
  const parts = text.split("-");
  if (parts.length != 3 || !isDigits(parts[0], 4) || !isDigits(parts[1], 2) || !isDigits(parts[2], 2)) return false;
  const month = i32.parse(parts[1]);
  const day = i32.parse(parts[2]);
  return month >= 1 && month <= 12 && day >= 1 && day <= daysIn(i32.parse(parts[0]), month);
}

function daysIn(year: i32, month: i32): i32 {
  if (month == 2) return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28;
  return month == 4 || month == 6 || month == 9 || month == 11 ? 30 : 31;
}

function isDigits(text: string, length: i32): bool {
  if (text.length != length) return false;
  for (let i = 0; i < length; i++) {
    const code = text.charCodeAt(i);
    if (code < 0x30 || code > 0x39) return false;
  }
  return true;
}
