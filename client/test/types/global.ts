/// <reference types="holdline/global" />
// Compiled, not run: a page that has the script, and so the global.
const line: Holdline = new Holdline("https://example.org/");
line.subscribe("news").onmessage = ({ data, lastEventId }) => console.log(lastEventId.length, data);
// @ts-expect-error there is no such method
line.send("x");
