import assert from 'node:assert/strict';
import {test} from 'node:test';
import MarkdownIt from 'markdown-it';
import {BlockSplitter} from '../src/markdown/blocks';
import {mathRules} from '../src/markdown/math_rules';

const md = new MarkdownIt();
md.use(mathRules);

const blocksOf = (text: string): string[] => {
  const splitter = new BlockSplitter();
  splitter.update(text);
  return [...splitter.closed, splitter.open];
};

const kTexts: Record<string, string> = {
  paragraphs: 'One\ntwo\n\nthree\n\n\nfour\n',
  headings: '# A\n\ntext\nSetext\n===\n\nmore\n',
  fence: 'Before\n```py\na = 1\n\nb = 2\n```\nafter\n\nend\n',
  'fence in fence': '````md\n```\ninner\n\n```\n````\nafter\n',
  'tilde fence': '~~~\n```\n\n~~~\n\nx\n',
  'open fence': 'x\n\n```c\nint a;\n\nint b;\n',
  'inline backticks are no fence': '```not a fence``` text\n\nmore\n',
  lists: '- a\n- b\n\n  more b\n\n- c\n\nafter\n',
  'numbered with code': '1. one\n\n   ```sh\n   ls\n\n   cd\n   ```\n\n2. two\n\ntext\n',
  'nested list': '* a\n  * b\n\n    * c\n\n* d\n\nend\n',
  'list then fence': '- a\n- b\n```\ncode\n```\nafter\n',
  'two lists': '- a\n\n1. b\n2. c\n',
  quote: '> a\n>\n> b\n\nc\n',
  'indented code': 'text\n\n    code\n\n    more\n\nend\n',
  table: '| a | b |\n|---|---|\n| 1 | 2 |\n\nafter\n',
  maths: 'Let\n$$\na\n\nb\n$$\nthen\n\n\\[ x \\]\n\nend\n',
  crlf: 'a\r\n\r\n```\r\nx\r\n```\r\nb\r\n',
  rule: 'a\n\n---\n\nb\n',
};

for (const [name, text] of Object.entries(kTexts)) {
  test(`cut blocks render like the whole text: ${name}`, () => {
    const blocks = blocksOf(text);
    assert.equal(blocks.join('').replace(/\s+/g, ''), text.replace(/\s+/g, ''), 'nothing is lost');
    assert.equal(blocks.map((block) => md.render(block)).join(''), md.render(text));
  });

  test(`the cuts do not depend on how the text arrives: ${name}`, () => {
    const whole = blocksOf(text);
    const splitter = new BlockSplitter();
    for (let length = 1; length <= text.length; length++) {
      const before = splitter.closed.slice();
      assert.equal(splitter.update(text.slice(0, length)), true);
      assert.deepEqual(splitter.closed.slice(0, before.length), before, 'a closed block stays as it is');
    }
    assert.deepEqual([...splitter.closed, splitter.open], whole);
  });
}

test('an open fence tells its language and where its code begins', () => {
  const splitter = new BlockSplitter();
  splitter.update('text\n\n```cpp title\nint a;\n');
  const {open, openFence} = splitter;
  assert.equal(openFence?.info, 'cpp title');
  assert.equal(open.slice(openFence!.bodyStart), 'int a;\n');
  splitter.update('text\n\n```cpp title\nint a;\n```\n');
  assert.equal(splitter.openFence, null);
  assert.equal(splitter.closed.length, 2);
});

test('another text starts over', () => {
  const splitter = new BlockSplitter();
  splitter.update('a\n\nb\n\nc\n');
  assert.equal(splitter.update('x\n\ny\n'), false);
  assert.deepEqual([...splitter.closed, splitter.open], ['x\n\n', 'y\n']);
});

test('a very long list does not stay open as one block', () => {
  const text = Array.from({length: 2000}, (_, index) => `${index + 1}. item number ${index + 1}`).join('\n') + '\n';
  const blocks = blocksOf(text);
  assert.ok(blocks.length > 5);
  assert.ok(Math.max(...blocks.map((block) => block.length)) < 5000);
  assert.match(md.render(blocks[1]!), /<ol start="\d+">/);
});
