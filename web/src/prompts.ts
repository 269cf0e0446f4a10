// Three openers that suit a model, judged by its name: a small model should not be made to look stupid, nor a large one dull.

export interface Prompt {
  title: string;
  text: string;
}

const kSmall: Prompt[] = [
  {title: 'Explain', text: 'Explain in three sentences why the sky is blue.'},
  {title: 'Write', text: 'Write a short story about a robot that learns to water plants.'},
  {title: 'List', text: 'List five tips for writing clear emails.'},
];
const kGeneral: Prompt[] = [
  {title: 'Explain', text: 'Explain to a developer, with a small example, how a Kalman filter fuses two noisy sensors.'},
  {title: 'Code', text: 'Write a C++20 function that parses a CSV line with quoted fields, with three test cases.'},
  {title: 'Compare', text: 'Compare ROS 2 topics, services and actions in a table, and say when to use which.'},
];
const kCode: Prompt[] = [
  {title: 'Write', text: 'Write a lock-free single-producer single-consumer ring buffer in C++20 and explain the memory orders.'},
  {title: 'Find the bug', text: 'What is wrong here?\n\n```python\ndef add(item, items=[]):\n    items.append(item)\n    return items\n```'},
  {title: 'Script', text: 'Write a bash script that shows the ten largest directories below a path, with readable sizes.'},
];
const kReasoning: Prompt[] = [
  {title: 'Work out', text: 'A robot drives 3 m north, 4 m east, then turns back on the shortest way at 0.5 m/s. How long does the way back take?'},
  {title: 'Prove', text: 'Prove that the square root of 2 is irrational.'},
  {title: 'Plan', text: 'Plan a pick-and-place cell that sorts 40 parts a minute: list the assumptions, the bottleneck and how to remove it.'},
];

// "135M", "8B", "120b" as it stands in the name.
export function sizeOf(id: string): string | null {
  const match = /(?:^|[-_ ./])(\d+(?:\.\d+)?)([mb])(?:$|[-_ .])/i.exec(id);
  return match === null ? null : `${match[1]}${match[2]!.toUpperCase()} parameters`;
}

export function promptsFor(id: string): Prompt[] {
  const size = /^([\d.]+)([MB])/.exec(sizeOf(id) ?? '');
  if (/cod(e|er|estral)\b|devstral/i.test(id)) return kCode;
  if (/\br1\b|qwq|think|reason|gpt-oss/i.test(id)) return kReasoning;
  if (size !== null && (size[2] === 'M' || Number(size[1]) < 2)) return kSmall;
  return kGeneral;
}
