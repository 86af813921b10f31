/** The global that dist/holdline.iife.js makes: `/// <reference types="holdline/global" />`. */
import type { Holdline as Client } from "./holdline.js";

declare global {
  const Holdline: typeof Client;
  type Holdline = Client;
}

export {};
