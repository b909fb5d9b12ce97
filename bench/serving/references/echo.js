// What a function that echoes is on workerd: it reads the JSON, and writes it again.
export default {
  async fetch(request) {
    const { input } = await request.json();
    return Response.json({ output: input });
  },
};
