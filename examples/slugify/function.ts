// Turns a title into a URL slug: "Crème Brûlée, 2nd edition!" becomes "creme-brulee-2nd-edition".

@json
class Request {
  title: string = "";
  maxLength: i32 = 60;
}

@json
class Response {
  slug: string = "";
}

const ACCENTED = "àáâãäåçèéêëìíîïñòóôõöøùúûüýÿ";
const PLAIN = "aaaaaaceeeeiiiinoooooouuuuyy";

export function handle(input: string): string {
  const request = JSON.parse<Request>(input);
  const response = new Response();
  response.slug = shorten(slugify(request.title), request.maxLength);
  return JSON.stringify(response);
}

function slugify(title: string): string {
  const lower = title.toLowerCase();
  let slug = "";
  let pending = false;
  for (let i = 0; i < lower.length; i++) {
    const character = plain(lower.charAt(i));
    if (isWordCharacter(character.charCodeAt(0))) {
      if (pending && slug.length > 0) slug += "-";
      slug += character;
      pending = false;
    } else {
      pending = true;
    }
  }
  return slug;
}

function plain(character: string): string {
  const at = ACCENTED.indexOf(character);
  return at < 0 ? character : PLAIN.charAt(at);
}

function isWordCharacter(code: i32): bool {
  return (code >= 0x61 && code <= 0x7a) || (code >= 0x30 && code <= 0x39);
}

/** Cuts at the last whole word that fits. */
function shorten(slug: string, limit: i32): string {
  if (slug.length <= limit) return slug;
  const cut = slug.lastIndexOf("-", limit);
  return slug.substring(0, cut > 0 ? cut : limit);
}
