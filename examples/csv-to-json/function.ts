// Reads CSV as RFC 4180 writes it (quotes, commas and line breaks inside quotes) and answers with one object per row.

@json
class Request {
  csv: string = "";
  separator: string = ",";
}

@json
class Response {
  columns: string[] = [];
  rows: Map<string, string>[] = [];
}

export function handle(input: string): string {
  const request = JSON.parse<Request>(input);
  const table = parse(request.csv, request.separator.charCodeAt(0));
  const response = new Response();
  if (table.length == 0) return JSON.stringify(response);
  response.columns = table[0];
  for (let i = 1; i < table.length; i++) response.rows.push(record(table[0], table[i], i + 1));
  return JSON.stringify(response);
}

function record(columns: string[], fields: string[], line: i32): Map<string, string> {
  if (fields.length != columns.length) {
    throw new Error(`record ${line} has ${fields.length} fields, the header has ${columns.length}`);
  }
  const row = new Map<string, string>();
  for (let i = 0; i < columns.length; i++) row.set(columns[i], fields[i]);
  return row;
}

const QUOTE: i32 = 0x22;
const RETURN: i32 = 0x0d;
const NEWLINE: i32 = 0x0a;

function parse(csv: string, separator: i32): string[][] {
  const table: string[][] = [];
  let fields: string[] = [];
  let field = "";
  let quoted = false;
  for (let i = 0; i < csv.length; i++) {
    const code = csv.charCodeAt(i);
    if (quoted) {
      if (code != QUOTE) field += csv.charAt(i);
      else if (i + 1 < csv.length && csv.charCodeAt(i + 1) == QUOTE) field += csv.charAt(++i);
      else quoted = false;
    } else if (code == QUOTE) {
      quoted = true;
    } else if (code == separator) {
      fields.push(field);
      field = "";
    } else if (code == NEWLINE) {
      fields.push(field);
      table.push(fields);
      fields = [];
      field = "";
    } else if (code != RETURN) {
      field += csv.charAt(i);
    }
  }
  if (quoted) throw new Error("a quote is never closed");
  if (field.length > 0 || fields.length > 0) {
    fields.push(field);
    table.push(fields);
  }
  return table;
}
