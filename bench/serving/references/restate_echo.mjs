// What a function that echoes is on Restate; the argument is the loopback port that its server calls.
import { createServer } from "node:http2";
import { createEndpointHandler, service } from "@restatedev/restate-sdk";

const echo = service({ name: "Echo", handlers: { echo: async (_context, { input }) => ({ output: input }) } });

createServer(createEndpointHandler({ services: [echo] })).listen(Number(process.argv[2]), "127.0.0.1");
