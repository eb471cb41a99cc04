// Asks one question with the official AG-UI client and prints what it understood, as JSON.
// Usage: node ask.mjs <url> <access token> <question>
import { HttpAgent } from "@ag-ui/client";

const [url, token, question] = process.argv.slice(2);
const agent = new HttpAgent({ url, headers: { Authorization: `Bearer ${token}` } });
agent.messages = [{ id: "question-1", role: "user", content: question }];
const events = [];
let failure = null;
const result = await agent.runAgent(
  {},
  {
    onEvent: ({ event }) => void events.push(event.type),
    onRunErrorEvent: ({ event }) => void (failure = event.message),
    onRunFailed: ({ error }) => void (failure = error.message),
  },
);
console.log(JSON.stringify({ events, failure, messages: result.newMessages }));
