// Renders the Markdown of comments and notes as HTML: headings, paragraphs, lists, code, emphasis and links; HTML is escaped.

@json
class Request {
  markdown: string = "";
}

@json
class Response {
  html: string = "";
}

export function handle(input: string): string {
  const response = new Response();
  response.html = new Renderer().render(JSON.parse<Request>(input).markdown);
  return JSON.stringify(response);
}

class Renderer {
  private html: string = "";
  private paragraph: string[] = [];
  private inList: bool = false;
  private inCode: bool = false;

  render(markdown: string): string {
    const lines = markdown.replaceAll("\r\n", "\n").split("\n");
    for (let i = 0; i < lines.length; i++) this.line(lines[i]);
    this.closeBlocks();
    if (this.inCode) this.html += "</code></pre>\n";
    return this.html;
  }

  private line(line: string): void {
    if (line.startsWith("```")) return this.fence();
    if (this.inCode) {
      this.html += escape(line) + "\n";
      return;
    }
    const level = headingLevel(line);
    if (level > 0) return this.heading(level, line.substring(level).trim());
    if (line.startsWith("- ") || line.startsWith("* ")) return this.item(line.substring(2));
    if (line.trim().length == 0) return this.closeBlocks();
    if (this.inList) this.closeBlocks();
    this.paragraph.push(inline(line.trim()));
  }

  private fence(): void {
    if (!this.inCode) this.closeBlocks();
    this.html += this.inCode ? "</code></pre>\n" : "<pre><code>";
    this.inCode = !this.inCode;
  }

  private heading(level: i32, text: string): void {
    this.closeBlocks();
    this.html += `<h${level}>${inline(text)}</h${level}>\n`;
  }

  private item(text: string): void {
    if (!this.inList) {
      this.closeBlocks();
      this.html += "<ul>\n";
      this.inList = true;
    }
    this.html += `<li>${inline(text)}</li>\n`;
  }

  private closeBlocks(): void {
    if (this.paragraph.length > 0) this.html += `<p>${this.paragraph.join("\n")}</p>\n`;
    this.paragraph = [];
    if (this.inList) this.html += "</ul>\n";
    this.inList = false;
  }
}

/** 1 to 6 for a heading, 0 for anything else. */
function headingLevel(line: string): i32 {
  let level = 0;
  while (level < line.length && line.charAt(level) == "#") level++;
  return level <= 6 && line.charAt(level) == " " ? level : 0;
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}

function inline(text: string): string {
  // Code comes first: what is between backticks is not looked at again.
  const parts = text.split("`");
  let html = "";
  for (let i = 0; i < parts.length; i++) {
    const isCode = i % 2 == 1 && i + 1 < parts.length;
    if (isCode) html += `<code>${escape(parts[i])}</code>`;
    else html += (i % 2 == 1 ? "`" : "") + emphasis(links(escape(parts[i])));
  }
  return html;
}

function emphasis(text: string): string {
  return pairs(pairs(text, "**", "strong"), "*", "em");
}

function pairs(text: string, mark: string, tag: string): string {
  const parts = text.split(mark);
  let html = parts[0];
  for (let i = 1; i < parts.length; i++) {
    const isLastAndOpen = i % 2 == 1 && i + 1 == parts.length;
    html += isLastAndOpen ? mark : i % 2 == 1 ? `<${tag}>` : `</${tag}>`;
    html += parts[i];
  }
  return html;
}

/** `[text](address)`, for addresses that cannot run a script. */
function links(text: string): string {
  const open = text.indexOf("[");
  const middle = text.indexOf("](", open);
  const close = text.indexOf(")", middle);
  if (open < 0 || middle < 0 || close < 0) return text;
  const label = text.substring(open + 1, middle);
  const address = text.substring(middle + 2, close);
  const safe = address.startsWith("https://") || address.startsWith("http://") || address.startsWith("/");
  const link = safe ? `<a href="${address}">${label}</a>` : label;
  return text.substring(0, open) + link + links(text.substring(close + 1));
}
