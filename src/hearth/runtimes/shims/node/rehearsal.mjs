// The same as an ES module: importing the first one of a process costs the most.

export { default } from './rehearsal.cjs';
